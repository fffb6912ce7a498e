"""CSV as text: cut outside quotes, parsed for the features, and carried through line by line as it was written."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from serving.batch.scoring import (
    SNAPPY,
    BatchError,
    BatchStats,
    Scorer,
    append_predictions,
    finalize_stats,
    find_failing_indices,
    format_csv_row,
)

BLOCK_BYTES = 4 << 20  # bytes that a thread scores at a time
MAX_LINE_BYTES = 64 << 20  # bytes that may pass without an end of line outside quotes
NULL_VALUES = ["", "null", "NULL", "NA", "N/A", "#N/A", "None"]
NEWLINE, CARRIAGE_RETURN, QUOTE = b'\n\r"'


class CsvScorer:
    """Scores blocks of a CSV file, each of which begins with the end of the line before it."""

    def __init__(self, scorer: Scorer, header: bytes, as_table: bool) -> None:
        try:
            [names] = csv.reader(
                io.StringIO(header.decode("utf-8-sig").rstrip("\r"), newline=""), strict=True
            )
        except (ValueError, csv.Error) as error:
            raise BatchError("line 1: expected the names of columns, in UTF-8") from error
        scorer.check(names)
        self.scorer, self.names, self.as_table = scorer, names, as_table
        self.header = (
            header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
            + b","
            + format_csv_row(scorer.output_columns).encode()
        )
        self.passthrough_columns = (
            (names if scorer.keep is None else scorer.keep) if as_table else []
        )
        self.metadata, self.compression = scorer.metadata, SNAPPY
        self.types = dict.fromkeys(names, pa.string()) | dict.fromkeys(
            scorer.model.features, pa.float64()
        )
        self.bytes = dict.fromkeys(names, pa.binary())

    def __call__(self, block: bytes) -> tuple[Any, BatchStats]:
        """Return a table, or what is to be written of CSV; and the tally."""
        features, ragged, bad = self.scorer.model.features, dict[int, str](), dict[int, str]()
        try:
            table = self._parse(block, self.types, ragged)
        except (
            pa.ArrowInvalid
        ):  # says which row, but only of the first column in which something is wrong
            table = self._parse(block, self.bytes, ragged)
            for i, name in enumerate(table.column_names):
                table = table.set_column(
                    i, name, self._cast_valid_values(name, table.column(name).combine_chunks(), bad)
                )
        rows = self.scorer.rows([table.column(name) for name in features], bad)
        answers, placed, tally = self.scorer.answer(rows, bad)
        tally.rows, tally.lines = tally.rows + len(ragged), block.count(b"\n")
        if not self.as_table or ragged or tally.bad_rows or b'"' in block:
            lines, numbers = _split_lines(block, tally.rows)
        if ragged or tally.bad_rows:
            whole = np.ones(tally.rows, bool)
            whole[list(ragged)] = False
            at = np.flatnonzero(whole)
            reasons = ragged | {int(at[row]): reason for row, _, reason in tally.bad_rows}
            tally.bad_rows = [(row, int(numbers[row]), reasons[row]) for row in sorted(reasons)]
            lines = lines.filter(pa.array(whole))
        finalize_stats(tally)
        if self.as_table:
            return append_predictions(
                table.select(self.passthrough_columns), answers, placed
            ), tally
        lines = lines if placed.all() else lines.filter(pa.array(placed))
        return _join_columns(lines, self.scorer.csv_suffixes(answers)), tally

    def _parse(self, block: bytes, types: dict[str, Any], ragged: dict[int, str]) -> Any:
        def skip(row: Any) -> str:
            ragged[row.number - 1] = (
                f"expected {row.expected_columns} values, got {row.actual_columns}"
            )
            return "skip"

        return pyarrow.csv.read_csv(
            pa.BufferReader(block or b"\n"),
            pyarrow.csv.ReadOptions(
                use_threads=False, column_names=self.names, block_size=len(block) + 1
            ),
            pyarrow.csv.ParseOptions(invalid_row_handler=skip),
            pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=list(
                    dict.fromkeys([*self.passthrough_columns, *self.scorer.model.features])
                ),
                null_values=NULL_VALUES,
            ),
        )

    def _cast_valid_values(self, name: str, column: Any, bad: dict[int, str]) -> Any:
        kind, texts = self.types[name], column
        if kind == pa.float64():  # as where it is parsed
            texts = pc.cast(column, options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
            texts = pc.ascii_trim_whitespace(texts)
            texts = pc.if_else(pc.is_in(texts, pa.array(NULL_VALUES)), None, texts)
        found = find_failing_indices(lambda these: texts[these].cast(kind), len(texts))
        for i in found:
            bad.setdefault(
                i,
                self.scorer.describe_bad_value(
                    name, repr(column[i].as_py()[:100].decode(errors="replace"))
                ),
            )
        wrong = np.zeros(len(texts), bool)
        wrong[found] = True
        return pc.if_else(pa.array(wrong), None, texts).cast(kind)


def read_header(file: Any) -> bytes:
    """Return the first line of a CSV file, without its end."""
    text, end = b"", -1
    while end < 0 and len(text) < MAX_LINE_BYTES and (more := file.read(BLOCK_BYTES)):
        text += more
        end = find_first_line_end(text)
    return text if end < 0 else text[:end]


def find_first_line_end(text: bytes) -> int:
    """Return where the first line of CSV ends, or -1."""
    end = text.find(b"\n")
    while end >= 0 and text.count(b'"', 0, end) % 2:
        end = text.find(b"\n", end + 1)
    return end


def find_last_line_end(text: bytes) -> int:
    """Return where the last line of CSV begins that has no end yet: its end of line before it, outside quotes, or 0."""
    end = text.rfind(b"\n")
    odd = text.count(b'"', 0, end) % 2
    while end > 0 and odd:
        quote = text.rfind(b'"', 0, end)
        before = text.rfind(b"\n", 0, quote)
        odd ^= text.count(b'"', max(before, 0), end) % 2
        end = before
    return max(end, 0)


def iter_blocks(file: Any, size: int, stop: int | None = None) -> Iterator[bytes]:
    """Yield the rest of a CSV file in blocks of about `size` bytes, each of which begins with an end of line."""
    rest, at = b"", file.tell()
    while more := file.read(size if stop is None else min(size, stop - at)):
        at += len(more)
        rest += more
        if end := find_last_line_end(rest):
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > MAX_LINE_BYTES:
            raise BatchError(f"no end of a line within {len(rest)} bytes, outside quotes")
    if rest.strip():
        yield rest


def _split_lines(block: bytes, rows: int) -> tuple[Any, NDArray[np.int64]]:
    """Return the lines of a block that are rows, each after the end of the one before, and their numbers in it."""
    text = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(text == NEWLINE)
    starts = newlines
    for odd in (0, block.count(b'"') % 2):
        lengths = np.diff(starts, append=len(block)) - 1
        blank = lengths == 0
        if b"\r" in block:
            blank |= (lengths == 1) & (
                text[np.minimum(starts + 1, len(block) - 1)] == CARRIAGE_RETURN
            )
        if len(starts) - blank.sum() == rows and not odd:
            break
        starts = newlines[
            np.cumsum(text == QUOTE)[newlines] % 2 == 0
        ]  # an end of line inside quotes is none
    else:
        raise BatchError("a quotation mark that is not closed, or not doubled within a value")
    offsets = np.append(starts, len(block)).astype(np.int32)
    lines = pa.Array.from_buffers(
        pa.string(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    )
    if blank.any():
        lines = lines.filter(pa.array(~blank))
    if b"\r" in block:
        lines = pc.ascii_rtrim(lines, "\r")
    return lines, np.searchsorted(newlines, starts[~blank], "right")


def _join_columns(lines: Any, texts: list[Any]) -> Any:
    joined = pc.binary_join_element_wise(
        lines, *texts, ",", null_handling="replace", null_replacement=""
    )
    _, offsets, data = joined.buffers()
    return data.slice(0, int(np.frombuffer(offsets, np.int32)[len(joined)])) if len(joined) else b""
