"""Files scored: read, cut into parts and blocks, and written; whole or not at all, wherever fsspec reaches."""

import fcntl
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from serving.batch.csv_blocks import BLOCK_BYTES, CsvScorer, iter_blocks, read_header
from serving.batch.scoring import ArrowScorer, BatchError, BatchStats, Scorer

ROWS_PER_BATCH = (
    1 << 17
)  # rows of Parquet that a thread scores at a time, and of a row group that is written
SUFFIXES = (".csv", ".csv.gz", ".parquet")


class FilePart(msgspec.Struct, frozen=True):
    """A file, or a piece of it: bytes of CSV from one end of line to another, or row groups of Parquet."""

    path: str
    start: int = 0
    stop: int | None = None


class Writer:
    """Writes what was scored, in order, and the bad rows beside it."""

    def __init__(self, to: str, work: CsvScorer | ArrowScorer) -> None:
        self.fs, self.path = url_to_fs(to)
        self.block_scorer = work
        self.tables: Any = None
        self.errors: Any = None
        self.file = self.fs.open(self.path, "wb", compression="infer")
        if isinstance(work, CsvScorer) and not work.as_table:
            self.file.write(work.header)

    def write(self, payload: Any, tally: BatchStats, seen: BatchStats) -> None:
        """Write a block that comes after what was `seen`."""
        if isinstance(payload, pa.Table):
            payload = payload.replace_schema_metadata(self.block_scorer.metadata)
            if not self.tables:
                parquet = self.path.endswith(".parquet")
                options = {"compression": self.block_scorer.compression} if parquet else {}
                self.tables = (pq.ParquetWriter if parquet else pyarrow.csv.CSVWriter)(
                    self.file, payload.schema, **options
                )
            self.tables.write_table(payload)
        else:
            self.file.write(payload)
        for row, line, reason in map(seen.to_global_row, tally.bad_rows):
            self.errors = self.errors or self.fs.open(f"{self.path}.errors.ndjson", "wb")
            where = {"row": row + 1} if line is None else {"row": row + 1, "line": line}
            self.errors.write(msgspec.json.encode(where | {"reason": reason}) + b"\n")

    def end(self) -> None:
        """Write what comes last."""
        if self.tables:
            self.tables.close()
        else:
            self.file.write(b"\n")  # each block brings the end of the line before it

    def close(self) -> None:
        """Close the files, whatever happened."""
        if isinstance(self.tables, pq.ParquetWriter) and self.tables.is_open:
            self.tables.is_open = (
                False  # else it would write its last words, at some time, to a file that is closed
            )
        for file in (self.errors, self.file):
            if file:
                file.close()


def score_part(
    part: FilePart, scorer: Scorer, to: str, threads: int
) -> Iterator[tuple[int, BatchStats]]:
    """Score a part to a file, with its bad rows beside it; say of each block how many bytes it had, and its tally.

    Reading, scoring and writing overlap where there is more than one thread. It ends with the first bad row where such
    fail. Raises Refused, OSError and ArrowException.
    """
    with ExitStack() as stack:
        work, blocks, empty, seen = _open_part(part, scorer, to, threads, stack)
        yield 0, seen
        writer = Writer(to, work)
        stack.callback(writer.close)

        def step(size: int, scored: tuple[Any, BatchStats]) -> tuple[int, BatchStats]:
            payload, tally = scored
            writer.write(payload, tally, seen)
            seen.add(tally)
            return size, tally

        for size, tally in _run_pipeline(work, step, blocks, threads):
            yield size, tally
            if tally.first_bad_row and scorer.on_error == "fail":
                return
        if not seen.rows:
            step(0, work(empty))
        writer.end()


def _open_part(
    part: FilePart, scorer: Scorer, to: str, threads: int, stack: ExitStack
) -> tuple[Any, Any, Any, BatchStats]:
    """Return what scores the part, its blocks with their sizes in bytes, a block without rows, and a first tally."""
    fs, path = url_to_fs(part.path)
    if path.endswith(".parquet"):
        # Read ahead, what was read would stay in memory until the end of the file.
        file = stack.enter_context(pq.ParquetFile(path, filesystem=fs, pre_buffer=False))
        work: Any = ArrowScorer(scorer, file.schema_arrow, file.metadata)
        groups = list(range(file.num_row_groups))[part.start : part.stop]
        batches = file.iter_batches(ROWS_PER_BATCH, groups, work.columns, use_threads=threads > 1)
        size = fs.size(path) / max(file.metadata.num_rows, 1)
        tables = ((int(size * batch.num_rows), pa.Table.from_batches([batch])) for batch in batches)
        return work, tables, file.schema_arrow.empty_table(), BatchStats()
    file = stack.enter_context(fs.open(path, "rb", compression="infer"))
    first = read_header(file)
    work = CsvScorer(scorer, first, to.endswith(".parquet") or scorer.keep is not None)
    file.seek(part.start or len(first))
    blocks = ((len(block), block) for block in iter_blocks(file, BLOCK_BYTES, part.stop))
    return work, blocks, b"", BatchStats(lines=0 if part.start else 1 + first.count(b"\n"))


def _run_pipeline(
    work: Any, step: Any, blocks: Iterator[tuple[int, Any]], threads: int
) -> Iterator[tuple[int, BatchStats]]:
    if threads == 1:
        for size, block in blocks:
            yield step(size, work(block))
        return
    with ThreadPoolExecutor(threads) as scorers, ThreadPoolExecutor(1) as writer:
        pending: deque[Any] = deque()
        for size, block in blocks:
            scored = scorers.submit(work, block)
            pending.append(writer.submit(partial(_write_when_scored, step, size, scored)))
            if len(pending) > threads:  # no more than that is in memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _write_when_scored(step: Any, size: int, scored: Any) -> Any:
    return step(size, scored.result())


def list_inputs(url: str) -> tuple[list[str], bool]:
    """Return the files that `url` names, and whether it is a directory or a pattern. Raises Refused."""
    try:
        fs, path = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise BatchError(f"{url}: {error}") from error
    many = fs.isdir(path) or "*" in path
    there = fs.exists(path)
    names = fs.glob(path) if many and not there else fs.ls(path, detail=False) if many else [path]
    names = sorted(
        name for name in names if name.endswith(SUFFIXES) and not Path(name).name.startswith(".")
    )
    if not names or not (many or there):
        raise BatchError(f"{url}: no {' or '.join(SUFFIXES)} there")
    return [fs.unstrip_protocol(name) if "://" in url else name for name in names], many


@contextmanager
def staged_output(
    fs: Any, directory: str, name: str, stale: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Give a place to write files to, and a list for the names of those that are done.

    They stand in `directory` once all is well, and else nowhere: the place is within it, so moving is renaming. What a
    killed run left is removed; so is what is called as in `stale` and was not written anew. Raises Refused where
    another run is at it.
    """
    made, place, local = (
        not fs.exists(directory),
        f"{directory}/.{name or 'all'}.batch",
        isinstance(fs, LocalFileSystem),
    )
    fs.makedirs(place, exist_ok=True)
    with ExitStack() as stack:
        if local:
            stack.callback(os.close, lock := os.open(place, os.O_RDONLY))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BatchError(f"{directory}: another run is writing there") from error
            for left in Path(place).iterdir():
                left.unlink()
        done: list[str] = []
        try:
            yield fs.unstrip_protocol(place), done
            for one in done:
                if local:
                    _fsync(f"{place}/{one}")
                fs.mv(f"{place}/{one}", f"{directory}/{one}")
                made = False
            for old in [path for pattern in stale for path in fs.glob(f"{directory}/{pattern}")]:
                if old.rpartition("/")[2] not in done:
                    fs.rm(old)
        finally:
            with suppress(FileNotFoundError):
                fs.rm(place, recursive=True)
            if made:
                with suppress(OSError):
                    fs.rmdir(directory)


def _fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
