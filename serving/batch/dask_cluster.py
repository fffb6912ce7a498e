"""Scoring on a Dask cluster: files are split into parts, which the workers score."""

import hashlib
import logging
import pickle
import platform
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from distributed import Client, KilledWorker, WorkerPlugin
from fsspec.core import url_to_fs
from fsspec.utils import infer_compression

from serving.batch.csv_lines import CsvSource
from serving.batch.inputs import is_parquet
from serving.batch.parts import Cluster, FilePart, FileResults, Results, part_filename, score_part
from serving.batch.scoring import Scorer
from serving.batch.stats import BatchError, BatchStats
from serving.batch.writer import Writer
from serving.model.errors import ModelError
from serving.model.loading import load_model
from serving.model.model import Model

CONNECT_SECONDS = 5
WORKER_SECONDS = 10

WORKER_MODELS: dict[str, Model] = {}  # on a worker: the shipped models by digest

# The size and the future of each part of a file, by the name of its output.
PartFutures = dict[str, tuple[int, Any]]


def score_on_cluster(
    cluster: Cluster, names: dict[str, str], staging_url: str, scorer: Scorer
) -> FileResults:
    """Score files in parts of about `part_bytes` bytes; yield each with its outputs and results.

    `names` are the names of the outputs by path. A part whose worker dies is scored by another one.
    Raises BatchError, ModelError, OSError, and the errors of scoring.
    """
    # The errors that it logs are raised as well.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    plugin = ModelPlugin(cluster.model_path)
    futures_by_path: dict[str, PartFutures] = {}

    with Client(cluster.scheduler, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        try:
            ship_model(client, plugin, cluster.scheduler)
            for path, name in names.items():
                futures_by_path[path] = submit_parts(
                    client, path, f"{staging_url}/{name}", cluster.part_bytes, plugin.sha256, scorer
                )
            for path, futures in futures_by_path.items():
                results = results_in_order(futures, f"{staging_url}/{names[path]}")
                yield path, list(futures), results
        finally:
            # No worker has the plugin if shipping failed, and the scheduler may be gone.
            if client.status == "running":
                with suppress(KeyError, OSError, ValueError):
                    for futures in futures_by_path.values():
                        client.cancel([future for _, future in futures.values()])
                    client.unregister_worker_plugin(plugin.name)


def ship_model(client: Any, plugin: "ModelPlugin", scheduler: str) -> None:
    """Load the model on all workers. Raises ModelError and BatchError."""
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError as error:
        raise BatchError(f"{scheduler}: no worker within {WORKER_SECONDS} seconds") from error
    try:
        client.register_plugin(plugin)
    except ModelError:
        raise
    except Exception as error:  # a worker without our code raises an error of any class
        raise BatchError(f"{scheduler}: a worker cannot load the model: {error}") from error


def submit_parts(
    client: Any, path: str, output_url: str, part_bytes: int, sha256: str, scorer: Scorer
) -> PartFutures:
    """Submit the parts of a file."""
    directory, _, name = output_url.rpartition("/")
    parts = list(split_file(path, part_bytes, scorer))
    futures: PartFutures = {}
    for i, (size, part) in enumerate(parts, 1):
        part_name = part_filename(name, f"{i:05d}", f"{len(parts):05d}")
        part_url = f"{directory}/{part_name}"
        job = pickle.dumps((score_part_on_worker, part, sha256, part_url, scorer.options))
        # Not pure: a part that is scored twice is written twice.
        future = client.submit(build_caller(), job, pure=False)
        futures[part_name] = (size, future)
    return futures


def build_caller() -> Callable[[bytes], Any]:
    """Return a function that calls the pickled one.

    The scheduler unpickles what is submitted. It needs no code of ours for a function that is no
    part of a module, and for bytes.
    """

    def call_pickled(job: bytes) -> Any:
        import pickle

        function, *arguments = pickle.loads(job)  # noqa: S301 - from the client, as all of Dask is
        return function(*arguments)

    return call_pickled


def results_in_order(futures: PartFutures, output_url: str) -> Results:
    """Yield the size and the counts of each part, and join their bad rows in one file."""
    stats = BatchStats()
    for part_name, (size, future) in futures.items():
        try:
            part_stats = future.result()
        except (KilledWorker, CancelledError) as error:
            # The part has ended several workers, or the scheduler is gone.
            raise BatchError(f"{part_name}: {error}") from error
        if part_stats.n_bad:
            append_bad_rows(part_name, output_url, stats)
        stats.add(part_stats)
        yield size, part_stats


def append_bad_rows(part_name: str, output_url: str, previous: BatchStats) -> None:
    """Append the bad rows of a part to those of its file, numbered after the `previous` rows."""
    fs, output_path = url_to_fs(output_url)
    directory, _, _ = output_path.rpartition("/")
    mode = "ab" if previous.n_bad else "wb"
    with (
        fs.open(f"{directory}/{part_name}.errors.ndjson", "rb") as part_errors,
        fs.open(f"{output_path}.errors.ndjson", mode) as errors,
    ):
        for line in part_errors:
            record = msgspec.json.decode(line)
            record["row"] += previous.rows
            if "line" in record:
                record["line"] += previous.lines
            errors.write(msgspec.json.encode(record) + b"\n")


def split_file(path: str, part_bytes: int, scorer: Scorer) -> Iterator[tuple[int, FilePart]]:
    """Yield the parts of a file, of about `part_bytes` bytes each, with their sizes."""
    fs, name = url_to_fs(path)
    if is_parquet(name):
        yield from split_parquet(fs, name, path, part_bytes)
    elif infer_compression(name):
        yield fs.size(name), FilePart(path)  # a compressed file can only be read from its start
    else:
        yield from split_csv(fs, name, path, part_bytes, scorer)


def split_parquet(fs: Any, name: str, path: str, part_bytes: int) -> Iterator[tuple[int, FilePart]]:
    """Yield ranges of row groups."""
    with pq.ParquetFile(name, filesystem=fs) as file:
        n_groups = file.num_row_groups
        sizes = [file.metadata.row_group(i).total_byte_size for i in range(n_groups)]
    if not sizes:
        yield 0, FilePart(path)

    start = 0
    for stop in range(1, n_groups + 1):
        size = sum(sizes[start:stop])
        if size >= part_bytes or stop == n_groups:
            yield size, FilePart(path, start, stop)
            start = stop


def split_csv(
    fs: Any, name: str, path: str, part_bytes: int, scorer: Scorer
) -> Iterator[tuple[int, FilePart]]:
    """Yield ranges of bytes between line ends; the file is read once for that."""
    with fs.open(name, "rb") as file:
        source = CsvSource(file, scorer.reading, scorer.model.features)
        if not source.is_divisible:
            yield fs.size(name), FilePart(path)
            return

        header_end = len(source.first_line)
        start = header_end
        for block in source.blocks(part_bytes, start):
            stop = start + len(block)
            yield len(block), FilePart(path, start, stop)
            start = stop
    if start == header_end:
        yield 0, FilePart(path)


def environment_fingerprint() -> dict[str, str]:
    """Return what must be equal wherever parts of one job are scored."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = b"".join(path.read_bytes() for path in sources)
    fingerprint = {
        "Python": platform.python_version(),
        "serving": hashlib.sha256(code).hexdigest()[:12],
    }
    for library in ("scikit-learn", "numpy", "pyarrow"):
        fingerprint[library] = version(library)
    return fingerprint


class ModelPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed is untyped
    """The model, shipped once to each worker, also to later ones, and verified on loading."""

    def __init__(self, path: Path) -> None:
        self.name = f"model-{uuid.uuid4().hex}"  # unique: another job may ship the same model
        self.model_bytes = path.read_bytes()
        self.card_bytes = path.with_suffix(".json").read_bytes()
        self.sha256 = hashlib.sha256(self.model_bytes).hexdigest()
        self.fingerprint = environment_fingerprint()

    def setup(self, worker: Any) -> None:
        """Load the model on a worker. Raises ModelError, also where the job was started."""
        for name, value in environment_fingerprint().items():
            expected = self.fingerprint[name]
            if value != expected:
                raise ModelError(f"{worker.address}: {name} {value} there, {expected} here")

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "model.pkl")
            path.write_bytes(self.model_bytes)
            path.with_suffix(".json").write_bytes(self.card_bytes)
            WORKER_MODELS[self.sha256] = load_model(path, self.sha256)


def score_part_on_worker(
    part: FilePart, sha256: str, output_url: str, scorer_options: dict[str, Any]
) -> BatchStats:
    """Score a part on a worker and return its counts."""
    # If this worker is thought dead, another one scores the same part: each writes a file of its
    # own, and the last one that moves it wins.
    directory, _, name = output_url.rpartition("/")
    attempt_url = f"{directory}/{uuid.uuid4().hex}-{name}"
    scorer = Scorer(WORKER_MODELS[sha256], **scorer_options)
    total = BatchStats()
    with closing(Writer(attempt_url)) as writer:
        for _, block_stats in score_part(part, scorer, writer, 1):
            total.add(block_stats)
        writer.finish()

    fs, attempt_path = url_to_fs(attempt_url)
    _, output_path = url_to_fs(output_url)
    if total.n_bad:
        fs.mv(f"{attempt_path}.errors.ndjson", f"{output_path}.errors.ndjson")
    fs.mv(attempt_path, output_path)
    return total
