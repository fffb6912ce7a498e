"""Parts of files: read in blocks, scored by threads, and written in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch.csv_blocks import CsvScorer
from serving.batch.csv_lines import BLOCK_BYTES, CsvSource
from serving.batch.inputs import find_filesystem, is_parquet, open_binary, partition_values
from serving.batch.scoring import Scorer
from serving.batch.stats import BatchStats
from serving.batch.tables import ArrowScorer
from serving.batch.writer import BlockScorer, Writer

ROWS_PER_BATCH = 1 << 17  # of Parquet that a thread scores at a time, and of a row group written

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
        opened = open_part(part, scorer, is_parquet(output_url), n_threads, stack)
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
    fs, path = find_filesystem(part.path)
    if is_parquet(path):
        return open_parquet_part(fs, path, part, scorer, n_threads, stack)

    file = stack.enter_context(open_binary(fs, path, "rb"))
    source = CsvSource(file, scorer.reading, scorer.model.features)
    blocks = source.blocks(BLOCK_BYTES, part.start, part.stop)
    block_scorer = CsvScorer(
        scorer, source.format, source.first_line, as_table, partition_values(path)
    )

    header_stats = BatchStats()
    if not part.start:
        header_stats.notes = block_scorer.notes
        header_stats.lines = source.n_header_lines
    sized_blocks = ((len(block), block) for block in blocks)
    return OpenPart(block_scorer, sized_blocks, b"", header_stats)


def open_parquet_part(
    fs: Any, path: str, part: FilePart, scorer: Scorer, n_threads: int, stack: ExitStack
) -> OpenPart:
    """Open row groups of a Parquet file."""
    # With a buffer to read ahead, all that was read would stay in memory until the end.
    file = stack.enter_context(pq.ParquetFile(path, filesystem=fs, pre_buffer=False))
    block_scorer = ArrowScorer(scorer, file.schema_arrow, file.metadata, partition_values(path))
    row_groups = list(range(file.num_row_groups))[part.start : part.stop]
    batches = file.iter_batches(
        ROWS_PER_BATCH, row_groups, block_scorer.columns, use_threads=n_threads > 1
    )
    bytes_per_row = fs.size(path) / max(file.metadata.num_rows, 1)
    blocks = (
        (int(bytes_per_row * batch.num_rows), pa.Table.from_batches([batch])) for batch in batches
    )
    header_stats = BatchStats()
    if not part.start:
        header_stats.notes = tuple(block_scorer.notes)
    return OpenPart(block_scorer, blocks, file.schema_arrow.empty_table(), header_stats)


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
