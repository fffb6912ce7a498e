"""Files: score files to files, on this machine or on a Dask cluster."""

import lzma
import os
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

import joblib
import pyarrow as pa
from fsspec.core import url_to_fs
from tqdm import tqdm

from serving.batch.inputs import find_filesystem, is_table_file, list_inputs
from serving.batch.parts import Cluster, FilePart, FileResults, Results, part_filename, score_part
from serving.batch.scoring import Scorer
from serving.batch.staging import staged_output
from serving.batch.stats import BatchError, BatchStats, OutputError
from serving.batch.writer import Writer

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


def score_files(
    scorer: Scorer, input_urls: Sequence[str], output_url: str, cluster: Cluster | None
) -> tuple[BatchStats, list[str]]:
    """Score files to files; return their counts and the files with bad rows.

    Raises BatchError, ModelError and OSError.
    """
    outputs, is_multiple = list_inputs(input_urls)
    fs, directory = find_filesystem(output_url)
    directory = directory.rstrip("/")
    name = ""
    is_named = is_table_file(directory) or not is_multiple
    if cluster is None and is_named and not fs.isdir(directory):
        directory, name = os.path.split(directory)
        if not is_table_file(name) or name.lower().endswith(".zip"):
            raise BatchError(f"{output_url}: expected a name that ends in .{OUTPUT_SUFFIXES}")
        outputs = dict.fromkeys(outputs, name)
        scorer.keeps_partitions = is_multiple
    check_outputs(outputs, directory, output_url, has_one_output=bool(name))

    total = BatchStats()
    errors_files: dict[str, None] = {}
    sizes = {path: url_to_fs(path)[0].size(path) for path in outputs}
    n_read_bytes = 0
    printed_notes: set[Sequence[str]] = set()
    output = output_url
    with (
        staged_output(fs, directory, name, stale_patterns(outputs, cluster)) as staged,
        tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, disable=None) as bar,
    ):
        staging_url, completed = staged
        try:
            for path, names, results in start_jobs(scorer, outputs, staging_url, cluster):
                output = f"{directory}/{outputs[path]}"
                with closing(results):
                    stats = collect_results(path, results, scorer.on_error, bar, printed_notes)
                total.add(stats)
                completed.update(dict.fromkeys(names))
                if stats.n_bad:
                    errors_files[errors_name(output)] = None
                    completed[errors_name(outputs[path])] = None
                n_read_bytes += sizes[path]
                bar.update(n_read_bytes - bar.n)
        except OutputError as error:
            raise BatchError(f"{output}: {error}") from error
    return total, list(errors_files)


def check_outputs(
    outputs: dict[str, str], directory: str, output_url: str, has_one_output: bool
) -> None:
    """Raise BatchError if two inputs have one output of two, or an output is its input."""
    counts = Counter(outputs.values())
    for path, name in outputs.items():
        if counts[name] > 1 and not has_one_output:
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
    if cluster is None:
        return score_here(scorer, names, staging_url)
    # Imported here: it takes half a second, which a job without a cluster need not wait.
    from serving.batch.dask_cluster import score_on_cluster

    return score_on_cluster(cluster, names, staging_url, scorer)


def score_here(scorer: Scorer, names: dict[str, str], staging_url: str) -> FileResults:
    """Score one file after the other on all cores of this machine."""
    n_threads = joblib.cpu_count()  # respects the affinity and the quota of a container
    for name, group in groupby(names, key=names.__getitem__):
        paths = list(group)
        with closing(Writer(f"{staging_url}/{name}", len(paths) > 1)) as writer:
            for path in paths:
                yield path, [name], score_part(FilePart(path), scorer, writer, n_threads)
            writer.finish()


def collect_results(
    path: str, results: Results, on_error: str, bar: Any, printed_notes: set[Sequence[str]]
) -> BatchStats:
    """Return the counts of a file once it is scored. Raises BatchError with the file's path.

    What was guessed about the file is printed, unless it was in `printed_notes`.
    """
    total = BatchStats()
    try:
        for n_bytes, stats in results:
            bar.update(n_bytes)
            if stats.notes and stats.notes not in printed_notes:
                printed_notes.add(stats.notes)
                tqdm.write(f"{path}: {', '.join(stats.notes)}", file=sys.stderr)
            total.add(stats)
            if on_error == "fail" and total.first_bad_row:
                raise BatchError(str(total.first_bad_row))
    except INPUT_ERRORS as error:
        message = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BatchError(f"{path}: {message}") from error
    return total
