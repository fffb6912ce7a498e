"""Lines of CSV: found outside quotation marks, without parsing the fields."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.batch.stats import BatchError

BLOCK_BYTES = 4 << 20  # bytes that a thread scores at a time
MAX_LINE_BYTES = 64 << 20  # bytes without a line end outside quotation marks
NEWLINE, CARRIAGE_RETURN, QUOTE = b'\n\r"'


def read_header(file: Any) -> bytes:
    """Return the first line of a CSV file, without its line end."""
    text: bytes = b""
    while len(text) < MAX_LINE_BYTES:
        chunk: bytes = file.read(BLOCK_BYTES)
        if not chunk:
            return text
        text += chunk
        end = find_first_line_end(text)
        if end >= 0:
            return text[:end]
    return text


def find_first_line_end(text: bytes) -> int:
    """Return the index of the first line end outside quotation marks, or -1."""
    end = text.find(b"\n")
    while end >= 0 and text.count(b'"', 0, end) % 2:
        end = text.find(b"\n", end + 1)
    return end


def find_last_line_end(text: bytes) -> int:
    """Return the index of the last line end outside quotation marks, or 0."""
    end = text.rfind(b"\n")
    parity = text.count(b'"', 0, end) % 2  # 1 if the line end is inside quotation marks
    while end > 0 and parity:
        quote = text.rfind(b'"', 0, end)
        previous_end = text.rfind(b"\n", 0, quote)
        parity ^= text.count(b'"', max(previous_end, 0), end) % 2
        end = previous_end
    return max(end, 0)


def iter_blocks(file: Any, size: int, stop: int | None = None) -> Iterator[bytes]:
    """Yield the rest of a CSV file, up to `stop`, in blocks of about `size` bytes.

    Each block starts with the line end before its first line. Raises BatchError for a line that is
    too long.
    """
    buffer = b""
    position = file.tell()
    while chunk := file.read(size if stop is None else min(size, stop - position)):
        position += len(chunk)
        buffer += chunk
        end = find_last_line_end(buffer)
        if end:
            yield buffer[:end]
            buffer = buffer[end:]
        elif len(buffer) > MAX_LINE_BYTES:
            raise BatchError(f"no line end outside quotation marks within {len(buffer)} bytes")
    if buffer.strip():
        yield buffer


def split_lines(block: bytes, n_rows: int) -> tuple[Any, NDArray[np.int64]]:
    """Return the lines of a block, each after the line end before it, and their line numbers.

    Blank lines are left out. `n_rows` is the number of rows that the parser found, wide and narrow
    ones included. Raises BatchError if the lines are not as many.
    """
    text = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(text == NEWLINE)

    # If every line end separates two rows, no quoted value holds one, and quotes need no look.
    starts = newlines
    blank = _find_blank_lines(block, text, starts)
    if len(starts) - blank.sum() != n_rows:
        quotes_before = np.cumsum(text == QUOTE)[newlines]
        starts = newlines[quotes_before % 2 == 0]
        blank = _find_blank_lines(block, text, starts)
        if len(starts) - blank.sum() != n_rows or block.count(b'"') % 2:
            raise BatchError("unbalanced quotation mark, or one that is not doubled in a value")

    offsets = np.append(starts, len(block)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    lines = pa.Array.from_buffers(pa.string(), len(starts), buffers)
    if blank.any():
        lines = lines.filter(pa.array(~blank))
    if b"\r" in block:
        lines = pc.ascii_rtrim(lines, "\r")
    line_numbers = np.searchsorted(newlines, starts[~blank], "right")
    return lines, line_numbers


def _find_blank_lines(
    block: bytes, text: NDArray[np.uint8], starts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    lengths = np.diff(starts, append=len(block)) - 1
    blank: NDArray[np.bool_] = lengths == 0
    if b"\r" in block:
        first_bytes = text[np.minimum(starts + 1, len(block) - 1)]
        blank |= (lengths == 1) & (first_bytes == CARRIAGE_RETURN)
    return blank


def join_columns(lines: Any, suffixes: list[Any]) -> Any:
    """Return each line with its suffixes after it, separated by commas, as one buffer."""
    joined = pc.binary_join_element_wise(
        lines, *suffixes, ",", null_handling="replace", null_replacement=""
    )
    if not len(joined):
        return b""
    _, offsets, data = joined.buffers()
    end = int(np.frombuffer(offsets, np.int32)[len(joined)])
    return data.slice(0, end)
