"""The writer of scored blocks, in order, and of the bad rows beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from serving.batch.csv_blocks import CsvScorer
from serving.batch.inputs import find_filesystem, is_parquet, open_binary
from serving.batch.stats import BadRow, BatchStats, OutputError
from serving.batch.tables import ArrowScorer

BlockScorer = CsvScorer | ArrowScorer


class Writer:
    """Write scored blocks in order, and the bad rows to a file beside them.

    Raises OutputError if they cannot be written.
    """

    def __init__(self, output_url: str, block_scorer: BlockScorer) -> None:
        self.fs, self.path = find_filesystem(output_url)
        self.block_scorer = block_scorer
        self.table_writer: Any = None
        self.errors_file: Any = None
        # A line comes after the line end before it, except at the start of a file.
        self.is_at_start = True
        self.last_byte = b""
        with output_errors():
            self.fs.makedirs(self.path.rpartition("/")[0], exist_ok=True)
            self.file = open_binary(self.fs, self.path, "wb")
            if isinstance(block_scorer, CsvScorer) and not block_scorer.as_table:
                self._write_lines(block_scorer.header)

    def write(self, payload: Any, block_stats: BatchStats, previous: BatchStats) -> None:
        """Write a block that comes after the rows in `previous`."""
        with output_errors():
            if isinstance(payload, pa.Table):
                self._write_table(payload.replace_schema_metadata(self.block_scorer.metadata))
            else:
                self._write_lines(payload)
            for bad_row in block_stats.bad_rows:
                self._write_bad_row(previous.to_global_row(bad_row))

    def _write_lines(self, payload: Any) -> None:
        csv_format = self.block_scorer.format  # type: ignore[union-attr]
        if self.is_at_start and payload[:1] == b"\n":
            payload = payload[1:]
        self.is_at_start = self.is_at_start and not len(payload)
        self.last_byte = bytes(payload[-1:])
        if not csv_format.is_plain:
            payload = csv_format.encode(payload)
        self.file.write(payload)

    def _write_table(self, table: Any) -> None:
        if not self.table_writer:
            if is_parquet(self.path):
                self.table_writer = pq.ParquetWriter(
                    self.file, table.schema, compression=self.block_scorer.compression
                )
            else:
                self.table_writer = pyarrow.csv.CSVWriter(self.file, table.schema)
        self.table_writer.write_table(table)

    def _write_bad_row(self, bad_row: BadRow) -> None:
        if not self.errors_file:
            self.errors_file = self.fs.open(f"{self.path}.errors.ndjson", "wb")
        record: dict[str, Any] = {"row": bad_row.row + 1}
        if bad_row.line is not None:
            record["line"] = bad_row.line
        record["reason"] = bad_row.reason
        self.errors_file.write(msgspec.json.encode(record) + b"\n")

    def finish(self) -> None:
        """Write the end of the file."""
        with output_errors():
            if self.table_writer:
                self.table_writer.close()
            elif not self.is_at_start:
                self._write_lines(self._last_line_end())
            self._close_files()

    def _last_line_end(self) -> bytes:
        # Each block has the line end before its lines only; a carriage return belongs to its line.
        header = self.block_scorer.header  # type: ignore[union-attr]
        if header.endswith(b"\r") and self.last_byte != b"\r":
            return b"\r\n"
        return b"\n"

    def close(self) -> None:
        """Close the files, finished or not."""
        if isinstance(self.table_writer, pq.ParquetWriter) and self.table_writer.is_open:
            # Otherwise its finalizer would write a footer to a file that is closed.
            self.table_writer.is_open = False
        with output_errors():
            self._close_files()

    def _close_files(self) -> None:
        if self.errors_file:
            self.errors_file.close()
        self.file.close()


@contextmanager
def output_errors() -> Iterator[None]:
    """Raise OutputError in place of the error of a file that cannot be written."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        raise OutputError(getattr(error, "strerror", None) or str(error)) from error
