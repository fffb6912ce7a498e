"""The parts of a job on a Dask cluster: cut, score where the model was shipped to, and put in order again."""

import hashlib
import logging
import platform
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from distributed import Client, KilledWorker, WorkerPlugin
from fsspec.core import url_to_fs

from serving.batch.csv_blocks import iter_blocks, read_header
from serving.batch.files import FilePart, score_part
from serving.batch.scoring import BatchError, BatchStats, Scorer
from serving.model.errors import ModelError
from serving.model.model import Model
from serving.model.storage import load_model

WORKER_MODELS: dict[str, Model] = {}  # on a worker: by digest


def score_on_cluster(
    scheduler: str, model: Path, files: dict[str, str], place: str, size: int, scorer: Scorer
) -> Iterator[tuple[str, list[str], Iterator[tuple[int, BatchStats]]]]:
    """Score `files`, path to name, in parts of about `size` bytes; yield each with its outputs and its parts' tallies.

    A part whose worker dies is scored by another. Raises Refused, ModelError and OSError, and what scoring raises.
    """
    logging.getLogger("distributed.client").setLevel(
        logging.CRITICAL
    )  # what it has to say is raised as well
    shipped = ModelPlugin(model)
    asked = {"on_error": scorer.on_error, "proba": scorer.proba, "keep": scorer.keep}
    jobs: dict[str, dict[str, tuple[int, Any]]] = {path: {} for path in files}
    with Client(scheduler, timeout=5, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=30)
            try:
                client.register_plugin(shipped)
            except ModelError:
                raise
            except (
                Exception
            ) as error:  # a worker without our code cannot even say so in a class of its own
                raise BatchError(
                    f"{scheduler}: a worker cannot take the model in: {error}"
                ) from error
            for path, name in files.items():
                found = list(split_file(path, size))
                for i, (n, part) in enumerate(found, 1):
                    output = part_filename(name, f"{i:05d}", f"{len(found):05d}")
                    to = f"{place}/{output}"
                    jobs[path][output] = (
                        n,
                        client.submit(
                            score_part_on_worker, part, shipped.sha256, to, pure=False, **asked
                        ),
                    )
            for path, futures in jobs.items():
                yield path, list(futures), _results_in_order(futures, place, files[path])
        finally:
            if (
                client.status == "running"
            ):  # else there is no scheduler any more that could be asked
                client.cancel(
                    [future for futures in jobs.values() for _, future in futures.values()]
                )
                with suppress(KeyError):  # of a worker that could not take it in
                    client.unregister_worker_plugin(shipped.name)


def part_filename(name: str, i: str, n: str) -> str:
    """Return the name of part i of the n of a file: in order, and such that one that is missing is missed."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{i}-of-{n}{dot}{suffix}"


def _results_in_order(
    futures: dict[str, tuple[int, Any]], place: str, name: str
) -> Iterator[tuple[int, BatchStats]]:
    # Bad rows are numbered within the file, which takes the parts before: one list, as without a cluster.
    seen = BatchStats()
    for output, (n, future) in futures.items():
        try:
            tally = future.result()
        except (
            KilledWorker,
            CancelledError,
        ) as error:  # it ended three workers; or the scheduler is gone
            raise BatchError(f"{output}: {error}") from error
        if tally.n_bad:
            fs, directory = url_to_fs(place)
            with (
                fs.open(f"{directory}/{output}.errors.ndjson", "rb") as of_part,
                fs.open(f"{directory}/{name}.errors.ndjson", "ab" if seen.n_bad else "wb") as whole,
            ):
                for bad in map(msgspec.json.decode, of_part):
                    shift = {"row": seen.rows, "line": seen.lines}
                    whole.write(
                        msgspec.json.encode({k: v + shift.get(k, "") for k, v in bad.items()})
                        + b"\n"
                    )
        seen.add(tally)
        yield n, tally


def split_file(path: str, size: int) -> Iterator[tuple[int, FilePart]]:
    """Yield the parts of a file, of about `size` bytes each, with their sizes; CSV is read once for that."""
    fs, name = url_to_fs(path)
    if name.endswith(".parquet"):
        with pq.ParquetFile(name, filesystem=fs) as file:
            sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]
        start = 0
        for stop in range(1, len(sizes) + 1):
            if (found := sum(sizes[start:stop])) >= size or stop == len(sizes):
                yield found, FilePart(path, start, stop)
                start = stop
        if not sizes:
            yield 0, FilePart(path)
    elif name.endswith(".csv"):
        with fs.open(name, "rb") as file:
            at = len(read_header(file))
            file.seek(at)
            start = 0
            for block in iter_blocks(file, size):
                at += len(block)
                yield len(block), FilePart(path, start, at)
                start = at
        if not start:
            yield 0, FilePart(path)
    else:
        yield fs.size(name), FilePart(path)  # compressed: there is no way into the middle


def environment_fingerprint() -> dict[str, str]:
    """Return what must be the same wherever parts of one job are scored."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    libraries = {name: version(name) for name in ("scikit-learn", "numpy", "pyarrow")}
    return {
        "Python": platform.python_version(),
        "serving": hashlib.sha256(code).hexdigest()[:12],
        **libraries,
    }


class ModelPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed is untyped
    """The model, shipped once to each worker, also to those that come later, and verified there as for the service."""

    def __init__(self, path: Path) -> None:
        self.name = f"model-{uuid.uuid4().hex}"  # of this job: another may ship the same
        self.pickled, self.card = path.read_bytes(), path.with_suffix(".json").read_bytes()
        self.sha256, self.versions = (
            hashlib.sha256(self.pickled).hexdigest(),
            environment_fingerprint(),
        )

    def setup(self, worker: Any) -> None:
        """Take it in. Raises ModelError, which is raised where the job was started."""
        for name, here in environment_fingerprint().items():
            if here != self.versions[name]:
                raise ModelError(
                    f"{worker.address}: {name} {here} there, {self.versions[name]} here"
                )
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "model.pkl")
            path.write_bytes(self.pickled)
            path.with_suffix(".json").write_bytes(self.card)
            WORKER_MODELS[self.sha256] = load_model(path, self.sha256)


def score_part_on_worker(part: FilePart, sha256: str, to: str, **asked: Any) -> BatchStats:
    """Score a part, on a worker."""
    total, scorer = BatchStats(), Scorer(WORKER_MODELS[sha256], **asked)
    # Another worker may be at the same, if this one is thought dead: each writes its own, and the last one moves it.
    directory, _, name = to.rpartition("/")
    attempt = f"{directory}/{uuid.uuid4().hex}-{name}"
    for _, tally in score_part(part, scorer, attempt, 1):
        total.add(tally)
    fs, path = url_to_fs(attempt)
    if total.n_bad:
        fs.mv(f"{path}.errors.ndjson", f"{url_to_fs(to)[1]}.errors.ndjson")
    fs.mv(path, url_to_fs(to)[1])
    return total
