"""Lines of CSV: found outside quotation marks, without parsing the fields."""

import codecs
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.batch.csv_format import ReadOptions, detect_encoding, detect_format
from serving.batch.stats import BatchError

BLOCK_BYTES = 4 << 20  # bytes that a thread scores at a time
SAMPLE_BYTES = 64 << 10  # of which the format is guessed
MAX_LINE_BYTES = 64 << 20  # bytes without a line end outside quotation marks
NEWLINE, CARRIAGE_RETURN, QUOTE = b'\n\r"'


class CsvSource:
    """A CSV file as UTF-8 with line feeds: its first line and its blocks.

    Raises UnicodeDecodeError.
    """

    def __init__(self, file: Any, options: ReadOptions, features: Sequence[str]) -> None:
        self.file = file
        start = file.read(BLOCK_BYTES)
        encoding = detect_encoding(start, options)
        chunks: Iterator[bytes] = chain([start], read_chunks(file, BLOCK_BYTES))
        if encoding != "utf-8":
            chunks = map(str.encode, codecs.iterdecode(chunks, encoding))

        text = next(chunks, b"")
        ends_with_cr = b"\r" in text and b"\n" not in text
        if ends_with_cr:
            text = text.replace(b"\r", b"\n")
            chunks = (chunk.replace(b"\r", b"\n") for chunk in chunks)

        text, end = read_first_line(text, chunks)
        self.first_line = text[:end]
        self.n_header_lines = 1 + self.first_line.count(b"\n")
        if not options.has_header:
            # A block starts with the line end before its first line.
            text = b"\n" + text
            self.n_header_lines = 0
            end = 0
        self.chunks: Iterator[bytes] = chain([text[end:]], chunks)
        self.format = detect_format(text[:SAMPLE_BYTES], encoding, ends_with_cr, features, options)

    @property
    def is_divisible(self) -> bool:
        """Return whether ranges of the file's bytes are lines as they are read."""
        return self.format.has_header and self.format.is_plain

    def blocks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield blocks of about `size` bytes, of all lines or of those from `start` to `stop`."""
        chunks = self.chunks
        if start:
            self.file.seek(start)
            chunks = read_chunks(self.file, size, stop)
        return iter_blocks(chunks, size)


def read_chunks(file: Any, size: int, stop: int | None = None) -> Iterator[bytes]:
    """Yield what is left of a file, or is left before `stop`."""
    while True:
        length = size
        if stop is not None:
            length = min(size, stop - file.tell())
        chunk = file.read(length)
        if not chunk:
            return
        yield chunk


def read_first_line(text: bytes, chunks: Iterator[bytes]) -> tuple[bytes, int]:
    """Return the start of a file with its whole first line, and where that ends."""
    end = find_first_line_end(text)
    while end < 0 and len(text) < MAX_LINE_BYTES:
        chunk = next(chunks, b"")
        if not chunk:
            break
        text += chunk
        end = find_first_line_end(text)
    if end < 0:
        end = len(text)
    return text, end


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


def iter_blocks(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the lines in `chunks`, of `size` bytes, in blocks of about as many.

    Each block starts with the line end before its first line. Raises BatchError for a line that is
    too long.
    """
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        if len(buffer) < size // 2:
            continue
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


def join_columns(lines: Any, suffixes: list[Any], delimiter: str, with_lines: bool = True) -> Any:
    """Return each line with its suffixes after it, or the suffixes alone, as one buffer.

    The line end before a line, and a carriage return at its end, are kept in either case.
    """
    has_returns = pc.any(pc.ends_with(lines, "\r")).as_py()
    if has_returns:
        ends = pc.if_else(pc.ends_with(lines, "\r"), "\r", "")
        lines = pc.ascii_rtrim(lines, "\r")

    columns = [lines] * int(with_lines) + suffixes
    joined = pc.binary_join_element_wise(
        *columns, delimiter, null_handling="replace", null_replacement=""
    )
    if not with_lines:
        joined = pc.binary_join_element_wise("\n", joined, "")
    if has_returns:
        joined = pc.binary_join_element_wise(joined, ends, "")
    if not len(joined):
        return b""
    _, offsets, data = joined.buffers()
    end = int(np.frombuffer(offsets, np.int32)[len(joined)])
    return data.slice(0, end)


def select_fields(lines: Any, indices: Sequence[int], delimiter: str) -> dict[int, Any]:
    """Return the fields at `indices` of each line as they were written, quotation marks included.

    `lines` start with the line end before them.
    """
    if not indices:
        return {}
    separator = re.escape(delimiter)
    field = f'(?:"(?:[^"]|"")*"[^{separator}\r\n]*|[^"{separator}\r\n][^{separator}\r\n]*|)'
    pattern = "^\n"
    position = 0
    for index in sorted(indices):
        pattern += f"(?:{field}{separator})" * (index - position)
        pattern += f"(?P<f{index}>{field})(?:{separator}|\r?$)"
        position = index + 1
    # As bytes, in which any value matches.
    fields = pc.extract_regex(lines.cast(pa.binary()), pattern)
    if fields.null_count:
        raise BatchError("a line cannot be divided into its fields")
    as_text = pc.CastOptions(pa.string(), allow_invalid_utf8=True)
    return {index: pc.cast(fields.field(f"f{index}"), options=as_text) for index in indices}
