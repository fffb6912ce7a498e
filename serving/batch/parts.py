"""Parts of files: read in blocks, scored by threads, and written in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch.csv_blocks import CsvScorer
from serving.batch.csv_lines import BLOCK_BYTES, CsvSource
from serving.batch.inputs import find_filesystem, is_parquet, open_compressed, partition_values
from serving.batch.scoring import Scorer
from serving.batch.stats import BatchStats
from serving.batch.tables import ArrowScorer
from serving.batch.writer import Writer

# Of Parquet, what a thread scores at a time, and what a row group has that is written.
MAX_BATCH_ROWS = 1 << 17
BATCH_BYTES = 64 << 20
# A value without a fixed size, such as a short text, with what Arrow has beside it.
VARIABLE_VALUE_BYTES = 32

SizedStats = tuple[int, BatchStats]  # bytes of a file that were read for a block, and its counts
Results = Generator[SizedStats, None, None]  # closing it closes the files of the part
# Of each input: its path, the names of its outputs, and its blocks.
FileResults = Iterator[tuple[str, list[str], Results]]


class Cluster(msgspec.Struct, frozen=True):
    """A Dask cluster: its scheduler, the model file to ship, and the size of a part."""

    scheduler: str
    model_path: Path
    part_bytes: int


BlockScorer = CsvScorer | ArrowScorer
# Its scorer, its blocks with the bytes of each, and the counts of what is before the first block.
OpenedPart = tuple[BlockScorer, Iterator[tuple[int, Any]], BatchStats]


class FilePart(msgspec.Struct, frozen=True):
    """A file, or a range of it: bytes of CSV between two line ends, or row groups of Parquet."""

    path: str
    start: int = 0
    stop: int | None = None


def part_filename(name: str, index: str, count: str) -> str:
    """Return the name of a part's output; the names are in order and show a missing part."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{index}-of-{count}{dot}{suffix}"


def score_part(part: FilePart, scorer: Scorer, writer: Writer, n_threads: int) -> Results:
    """Score a part and write it; yield the size and counts of each block.

    Reading, scoring and writing overlap. The first bad row ends the part if `on_error` is fail.
    Raises BatchError, OSError and ArrowException.
    """
    with ExitStack() as stack:
        if is_parquet(part.path):
            opened = open_parquet(part, scorer, n_threads, stack)
        else:
            opened = open_csv(part, scorer, is_parquet(writer.path), stack)
        block_scorer, blocks, stats = opened
        yield 0, stats
        writer.start_input(part.path, block_scorer)

        def write_block(size: int, payload: Any, block_stats: BatchStats) -> SizedStats:
            writer.write(payload, block_stats, stats)
            stats.add(block_stats)
            return size, block_stats

        for size, block_stats in run_pipeline(block_scorer, write_block, blocks, n_threads):
            yield size, block_stats
            if block_stats.first_bad_row and scorer.on_error == "fail":
                return

        if not stats.rows:
            write_block(0, *block_scorer(block_scorer.empty_block))
        writer.finish_input()


def open_csv(part: FilePart, scorer: Scorer, as_table: bool, stack: ExitStack) -> OpenedPart:
    """Open CSV until `stack` closes it. Raises BatchError if its columns cannot be scored."""
    fs, path = find_filesystem(part.path)
    raw_file = stack.enter_context(fs.open(path, "rb"))
    file = stack.enter_context(open_compressed(raw_file, path, "rb"))
    source = CsvSource(file, scorer.reading, scorer.model.features)
    block_scorer = CsvScorer(
        scorer, source.format, source.first_line, as_table, partition_values(path)
    )

    def sized_blocks() -> Iterator[tuple[int, bytes]]:
        position = 0
        for block in source.blocks(BLOCK_BYTES, part.start, part.stop):
            yield raw_file.tell() - position, block
            position = raw_file.tell()

    stats = BatchStats()
    if part.start <= len(source.first_line):  # the first part of the file
        stats = BatchStats(lines=source.n_header_lines, notes=block_scorer.notes)
    return block_scorer, sized_blocks(), stats


def open_parquet(part: FilePart, scorer: Scorer, n_threads: int, stack: ExitStack) -> OpenedPart:
    """Open row groups of a Parquet file as `open_csv` opens CSV."""
    fs, path = find_filesystem(part.path)
    # With a buffer to read ahead, all that was read would stay in memory until the end.
    file = stack.enter_context(pq.ParquetFile(path, filesystem=fs, pre_buffer=False))
    block_scorer = ArrowScorer(scorer, file.schema_arrow, file.metadata, partition_values(path))
    row_groups = list(range(file.num_row_groups))[part.start : part.stop]
    batches = file.iter_batches(
        count_batch_rows(file, block_scorer.parsed_columns),
        row_groups,
        block_scorer.parsed_columns,
        use_threads=n_threads > 1,
    )
    bytes_per_row = fs.size(path) / max(file.metadata.num_rows, 1)
    blocks = (
        (int(bytes_per_row * batch.num_rows), pa.Table.from_batches([batch])) for batch in batches
    )
    stats = BatchStats()
    if not part.start:
        stats = BatchStats(notes=tuple(block_scorer.columns.notes))
    return block_scorer, blocks, stats


def count_batch_rows(file: pq.ParquetFile, names: list[str]) -> int:
    """Return how many rows of these columns are scored at a time: fewer if they are wide.

    A value that recurs is smaller in the file than in memory, and a long text is as large.
    """
    metadata = file.metadata
    n_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    types = [file.schema_arrow.field(name).type for name in names]
    row_bytes: int = max(n_bytes // max(metadata.num_rows, 1), sum(map(count_value_bytes, types)))
    return min(max(BATCH_BYTES // max(row_bytes, 1), 1), MAX_BATCH_ROWS)


def count_value_bytes(arrow_type: Any) -> int:
    """Return the size of a value in memory, which is estimated if it is not fixed."""
    try:
        n_bits: int = arrow_type.bit_width
    except ValueError:
        return VARIABLE_VALUE_BYTES
    return max(n_bits // 8, 1)


def run_pipeline(
    block_scorer: BlockScorer,
    write_block: Callable[[int, Any, BatchStats], SizedStats],
    blocks: Iterator[tuple[int, Any]],
    n_threads: int,
) -> Iterator[SizedStats]:
    """Score blocks in `n_threads` threads, write them in order, and yield what was written."""

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
