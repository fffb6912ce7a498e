"""Files: score files to files, on this machine or on a Dask cluster."""

import lzma
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
from fsspec.core import url_to_fs

from serving.batch.inputs import find_filesystem, is_table_file, list_inputs
from serving.batch.parts import FilePart, Results, part_filename, score_part
from serving.batch.report import Progress
from serving.batch.scoring import Scorer
from serving.batch.staging import staged_output
from serving.batch.stats import BatchError, BatchStats, OutputError

INPUT_ERRORS = (
    BatchError,
    EOFError,
    OSError,
    UnicodeError,
    lzma.LZMAError,
    pa.ArrowException,
    zipfile.BadZipFile,
    zlib.error,
)
OUTPUT_SUFFIXES = "csv, .tsv (also .gz, .bz2, .xz, .zst) or .parquet"

# Of each input: its path, the names of its outputs, and its blocks.
FileResults = Iterator[tuple[str, list[str], Results]]


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster: its scheduler, the model file to ship, and the size of a part."""

    scheduler: str
    model_path: Path
    part_bytes: int


def score_files(
    scorer: Scorer, input_urls: Sequence[str], output_url: str, cluster: Cluster | None
) -> tuple[BatchStats, list[str]]:
    """Score files to files; return their counts and the files with bad rows.

    Raises BatchError, ModelError and OSError.
    """
    outputs, is_multiple = list_inputs(input_urls)
    fs, output_path = find_filesystem(output_url)
    is_directory = is_multiple or cluster is not None or fs.isdir(output_path)
    directory, name = (output_path.rstrip("/"), "") if is_directory else os.path.split(output_path)
    if not is_directory:
        if not is_table_file(name) or name.lower().endswith(".zip"):
            raise BatchError(f"{output_url}: expected a name that ends in .{OUTPUT_SUFFIXES}")
        outputs = dict.fromkeys(outputs, name)
    check_outputs(outputs, directory, output_url)

    progress = Progress(sum(url_to_fs(path)[0].size(path) for path in outputs))
    total = BatchStats()
    errors_files = []
    with (
        staged_output(fs, directory, name, stale_patterns(outputs, cluster)) as staged,
        closing(progress.bar),
    ):
        staging_url, completed = staged
        for path, names, results in start_jobs(scorer, outputs, staging_url, cluster):
            with closing(results):
                output = f"{directory}/{outputs[path]}"
                stats = collect_results(path, output, results, progress, scorer.on_error == "fail")
            total.add(stats)
            completed.extend(names)
            if stats.n_bad:
                completed.append(errors_name(outputs[path]))
                errors_files.append(f"{directory}/{completed[-1]}")
    return total, errors_files


def check_outputs(outputs: dict[str, str], directory: str, output_url: str) -> None:
    """Raise BatchError if two inputs have one output, or an output is its input."""
    counts = Counter(outputs.values())
    for path, name in outputs.items():
        if counts[name] > 1:
            raise BatchError(
                f"{path}: several inputs are named {name}, and {output_url} can hold one"
            )
        if url_to_fs(path)[1] == f"{directory}/{name}":
            raise BatchError(f"{path}: OUTPUT is INPUT")


def errors_name(name: str) -> str:
    """Return the name of the file with the bad rows of an output."""
    return f"{name}.errors.ndjson"


def stale_patterns(names: dict[str, str], cluster: Cluster | None) -> list[str]:
    """Return patterns of files that an earlier job may have left for the same inputs."""
    patterns = [errors_name(name) for name in names.values()]
    if cluster is not None:
        patterns += [part_filename(name, "?????", "?????") for name in names.values()]
    return patterns


def start_jobs(
    scorer: Scorer, names: dict[str, str], staging_url: str, cluster: Cluster | None
) -> FileResults:
    """Return the results of each input, from this machine or from a cluster."""
    if cluster is not None:
        # Imported here: it takes half a second, which a job without a cluster need not wait.
        from serving.batch.dask_cluster import score_on_cluster

        return score_on_cluster(
            cluster.scheduler, cluster.model_path, names, staging_url, cluster.part_bytes, scorer
        )
    return score_here(scorer, names, staging_url)


def score_here(scorer: Scorer, names: dict[str, str], staging_url: str) -> FileResults:
    """Score one file after the other on all cores of this machine."""
    n_threads = joblib.cpu_count()  # respects the affinity and the quota of a container
    for path, name in names.items():
        results = score_part(FilePart(path), scorer, f"{staging_url}/{name}", n_threads)
        yield path, [name], results


def collect_results(
    path: str, output: str, results: Results, progress: Progress, fails: bool
) -> BatchStats:
    """Return the counts of a file once it is scored. Raises BatchError with the file's path."""
    stats = BatchStats()
    try:
        for n_bytes, block_stats in results:
            stats.add(block_stats)
            progress.add(path, n_bytes, block_stats)
            if fails and stats.first_bad_row:
                raise BatchError(str(stats.first_bad_row))
    except OutputError as error:
        raise BatchError(f"{output}: {error}") from error
    except INPUT_ERRORS as error:
        raise BatchError(f"{path}: {describe_input_error(error)}") from error
    return stats


def describe_input_error(error: Any) -> str:
    """Return what is wrong with an input, without its path."""
    strerror = getattr(error, "strerror", None)
    return strerror or str(error) or type(error).__name__
