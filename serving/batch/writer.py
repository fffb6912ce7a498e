"""The writer of scored blocks, in order, and of the bad rows beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from serving.batch.csv_blocks import CsvScorer
from serving.batch.inputs import find_filesystem, is_parquet, open_compressed
from serving.batch.stats import BadRow, BatchError, BatchStats, OutputError

# The first rows of a file show whether the values of a column recur. If a larger share of them is
# distinct, the dictionary and the indices of a row group are as large as its values.
SAMPLE_ROWS = 10_000
MAX_DISTINCT_SHARE = 0.95


@contextmanager
def output_errors() -> Iterator[None]:
    """Raise OutputError in place of the error of a file that cannot be written."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        raise OutputError(getattr(error, "strerror", None) or str(error)) from error


class Writer:
    """Write scored blocks in order, and the bad rows to a file beside them.

    There is one input, or with `has_several_inputs` one after the other, whose columns are equal.
    Raises OutputError if they cannot be written.
    """

    def __init__(self, output_url: str, has_several_inputs: bool = False) -> None:
        self.fs, self.path = find_filesystem(output_url)
        self.has_several_inputs = has_several_inputs
        self.input_path = ""
        self.block_scorer: Any = None
        self.layout: Any = None  # of the lines or tables that are written
        self.raw_file: Any = None
        self.file: Any = None
        self.table_writer: Any = None
        self.errors_file: Any = None
        # A line comes after the line end before it, except at the start of a file.
        self.is_at_start = True
        self.last_byte = b""

    @output_errors()
    def start_input(self, path: str, block_scorer: Any) -> None:
        """Begin an input, before its first block. Raises BatchError if its columns are others."""
        self.input_path = path
        self.block_scorer = block_scorer
        if not self.file:
            self.fs.makedirs(self.path.rpartition("/")[0], exist_ok=True)
            self.raw_file = self.fs.open(self.path, "wb")
            self.file = open_compressed(self.raw_file, self.path, "wb")
        if not self._writes_lines:
            return
        if self.layout is None:
            self._write_lines(block_scorer.header)
        csv_format = block_scorer.format
        form = (csv_format.delimiter, csv_format.encoding, csv_format.ends_with_cr)
        self._check_layout((block_scorer.columns.kept, form))

    @property
    def _writes_lines(self) -> bool:
        return isinstance(self.block_scorer, CsvScorer) and not self.block_scorer.as_table

    def _check_layout(self, layout: Any) -> None:
        if self.layout is None:
            self.layout = layout
        elif self.layout != layout:
            raise BatchError("the columns or the format differ from those of the first file")

    @output_errors()
    def write(self, payload: Any, block_stats: BatchStats, previous: BatchStats) -> None:
        """Write a block that comes after the rows in `previous`."""
        if isinstance(payload, pa.Table):
            self._check_layout(payload.schema.remove_metadata())
            self._write_table(payload.replace_schema_metadata(self.block_scorer.metadata))
        else:
            self._write_lines(payload)
        for bad_row in block_stats.bad_rows:
            self._write_bad_row(previous.to_global_row(bad_row))

    def _write_lines(self, payload: Any) -> None:
        csv_format = self.block_scorer.format
        if self.is_at_start and payload[:1] == b"\n":
            payload = payload[1:]
        if len(payload):
            self.is_at_start = False
            self.last_byte = bytes(payload[-1:])
        if not csv_format.is_plain:
            payload = csv_format.encode(payload)
        self.file.write(payload)

    def _write_table(self, table: Any) -> None:
        if not self.table_writer:
            if is_parquet(self.path):
                self.table_writer = pq.ParquetWriter(
                    self.file,
                    table.schema,
                    use_dictionary=find_recurring_columns(table),
                    compression=self.block_scorer.compression,
                )
            else:
                self.table_writer = pyarrow.csv.CSVWriter(self.file, table.schema)
        self.table_writer.write_table(table)

    def _write_bad_row(self, bad_row: BadRow) -> None:
        if not self.errors_file:
            self.errors_file = self.fs.open(f"{self.path}.errors.ndjson", "wb")
        record: dict[str, Any] = {"row": bad_row.row + 1}
        if self.has_several_inputs:
            record = {"file": self.input_path} | record
        if bad_row.line is not None:
            record["line"] = bad_row.line
        record["reason"] = bad_row.reason
        self.errors_file.write(msgspec.json.encode(record) + b"\n")

    @output_errors()
    def finish_input(self) -> None:
        """Write what the last line of an input may lack: its carriage return."""
        if not self._writes_lines or not self.block_scorer.header.endswith(b"\r"):
            return
        if self.last_byte != b"\r":
            self._write_lines(b"\r")

    @output_errors()
    def finish(self) -> None:
        """Write the end of the file."""
        if self.table_writer:
            self.table_writer.close()
        elif not self.is_at_start:
            self._write_lines(b"\n")
        self._close_files()

    @output_errors()
    def close(self) -> None:
        """Close the files, finished or not."""
        if isinstance(self.table_writer, pq.ParquetWriter) and self.table_writer.is_open:
            # Otherwise its finalizer would write a footer to a file that is closed.
            self.table_writer.is_open = False
        self._close_files()

    def _close_files(self) -> None:
        for file in (self.errors_file, self.file, self.raw_file):
            if file:
                file.close()


def find_recurring_columns(table: Any) -> list[str] | bool:
    """Return the columns that Parquet is to have with a dictionary of their values, True for all.

    A column whose values hardly recur, such as an id, takes less time and room without one.
    """
    sample = table.slice(0, SAMPLE_ROWS)
    if len(sample) < SAMPLE_ROWS:
        return True
    names = []
    try:
        for name in sample.column_names:
            if len(sample.column(name).unique()) <= MAX_DISTINCT_SHARE * SAMPLE_ROWS:
                names.append(name)
    except pa.ArrowNotImplementedError:  # lists and the like, whose parts are columns of the file
        return True
    return names
