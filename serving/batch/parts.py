"""Parts of files: read in blocks, scored by threads, and written in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from serving.batch.csv_blocks import CsvScorer
from serving.batch.csv_lines import BLOCK_BYTES, iter_blocks, read_header
from serving.batch.scoring import Scorer
from serving.batch.stats import BadRow, BatchStats
from serving.batch.tables import ArrowScorer

ROWS_PER_BATCH = 1 << 17  # of Parquet that a thread scores at a time, and of a row group written

BlockScorer = CsvScorer | ArrowScorer
SizedStats = tuple[int, BatchStats]  # bytes of a block, and its counts
Results = Generator[SizedStats, None, None]  # closing it closes the files of the part


class FilePart(msgspec.Struct, frozen=True):
    """A file, or a range of it: bytes of CSV between two line ends, or row groups of Parquet."""

    path: str
    start: int = 0
    stop: int | None = None


def part_filename(name: str, index: str, count: str) -> str:
    """Return the name of a part's output; the names are in order and show a missing part."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{index}-of-{count}{dot}{suffix}"


class OpenPart(msgspec.Struct):
    """A part that is being read: its scorer, its blocks with their sizes, a block without rows."""

    block_scorer: Any
    blocks: Iterator[tuple[int, Any]]
    empty_block: Any
    header_stats: BatchStats


def score_part(part: FilePart, scorer: Scorer, output_url: str, n_threads: int) -> Results:
    """Score a part to a file with its bad rows beside it; yield the size and counts of each block.

    Reading, scoring and writing overlap if there are several threads. The first bad row ends the
    part if `on_error` is fail. Raises BatchError, OSError and ArrowException.
    """
    with ExitStack() as stack:
        as_table = output_url.endswith(".parquet") or scorer.keep is not None
        opened = open_part(part, scorer, as_table, n_threads, stack)
        stats = opened.header_stats
        yield 0, stats
        writer = Writer(output_url, opened.block_scorer)
        stack.callback(writer.close)

        def write_block(size: int, payload: Any, block_stats: BatchStats) -> SizedStats:
            writer.write(payload, block_stats, stats)
            stats.add(block_stats)
            return size, block_stats

        for size, block_stats in run_pipeline(
            opened.block_scorer, write_block, opened.blocks, n_threads
        ):
            yield size, block_stats
            if block_stats.first_bad_row and scorer.on_error == "fail":
                return

        if not stats.rows:
            write_block(0, *opened.block_scorer(opened.empty_block))
        writer.finish()


def open_part(
    part: FilePart, scorer: Scorer, as_table: bool, n_threads: int, stack: ExitStack
) -> OpenPart:
    """Open a part; `stack` closes it. Raises BatchError if its columns cannot be scored."""
    fs, path = url_to_fs(part.path)
    if path.endswith(".parquet"):
        return open_parquet_part(fs, path, part, scorer, n_threads, stack)

    file = stack.enter_context(fs.open(path, "rb", compression="infer"))
    header = read_header(file)
    file.seek(part.start or len(header))
    blocks = ((len(block), block) for block in iter_blocks(file, BLOCK_BYTES, part.stop))
    n_header_lines = 0
    if not part.start:
        n_header_lines = 1 + header.count(b"\n")
    return OpenPart(
        CsvScorer(scorer, header, as_table), blocks, b"", BatchStats(lines=n_header_lines)
    )


def open_parquet_part(
    fs: Any, path: str, part: FilePart, scorer: Scorer, n_threads: int, stack: ExitStack
) -> OpenPart:
    """Open row groups of a Parquet file."""
    # With a buffer to read ahead, all that was read would stay in memory until the end.
    file = stack.enter_context(pq.ParquetFile(path, filesystem=fs, pre_buffer=False))
    block_scorer = ArrowScorer(scorer, file.schema_arrow, file.metadata)
    row_groups = list(range(file.num_row_groups))[part.start : part.stop]
    batches = file.iter_batches(
        ROWS_PER_BATCH, row_groups, block_scorer.columns, use_threads=n_threads > 1
    )
    bytes_per_row = fs.size(path) / max(file.metadata.num_rows, 1)
    blocks = (
        (int(bytes_per_row * batch.num_rows), pa.Table.from_batches([batch])) for batch in batches
    )
    return OpenPart(block_scorer, blocks, file.schema_arrow.empty_table(), BatchStats())


def run_pipeline(
    block_scorer: BlockScorer,
    write_block: Callable[[int, Any, BatchStats], SizedStats],
    blocks: Iterator[tuple[int, Any]],
    n_threads: int,
) -> Iterator[SizedStats]:
    """Score blocks in `n_threads` threads, write them in order, and yield what was written."""
    if n_threads == 1:
        for size, block in blocks:
            yield write_block(size, *block_scorer(block))
        return

    def write_when_scored(size: int, scored: Future[Any]) -> SizedStats:
        return write_block(size, *scored.result())

    with ThreadPoolExecutor(n_threads) as scoring_pool, ThreadPoolExecutor(1) as writing_pool:
        pending: deque[Future[SizedStats]] = deque()
        for size, block in blocks:
            scored = scoring_pool.submit(block_scorer, block)
            pending.append(writing_pool.submit(write_when_scored, size, scored))
            if len(pending) > n_threads:  # bounds the blocks in memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class Writer:
    """Write scored blocks in order, and the bad rows to a file beside them."""

    def __init__(self, output_url: str, block_scorer: BlockScorer) -> None:
        self.fs, self.path = url_to_fs(output_url)
        self.block_scorer = block_scorer
        self.table_writer: Any = None
        self.errors_file: Any = None
        self.file = self.fs.open(self.path, "wb", compression="infer")
        if isinstance(block_scorer, CsvScorer) and not block_scorer.as_table:
            self.file.write(block_scorer.header)

    def write(self, payload: Any, block_stats: BatchStats, previous: BatchStats) -> None:
        """Write a block that comes after the rows in `previous`."""
        if isinstance(payload, pa.Table):
            self._write_table(payload.replace_schema_metadata(self.block_scorer.metadata))
        else:
            self.file.write(payload)
        for bad_row in block_stats.bad_rows:
            self._write_bad_row(previous.to_global_row(bad_row))

    def _write_table(self, table: Any) -> None:
        if not self.table_writer:
            if self.path.endswith(".parquet"):
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
        if self.table_writer:
            self.table_writer.close()
        else:
            self.file.write(b"\n")  # each block has the line end before its lines, not after them

    def close(self) -> None:
        """Close the files, finished or not."""
        if isinstance(self.table_writer, pq.ParquetWriter) and self.table_writer.is_open:
            # Otherwise its finalizer would write a footer to a file that is closed.
            self.table_writer.is_open = False
        if self.errors_file:
            self.errors_file.close()
        self.file.close()
