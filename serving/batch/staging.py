"""Inputs and outputs of a job: input files are listed, outputs appear whole or not at all."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from serving.batch.stats import BatchError

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def list_inputs(url: str) -> tuple[list[str], bool]:
    """Return the files that `url` names, and whether it is a directory or a pattern.

    Raises BatchError if there is none.
    """
    try:
        fs, path = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise BatchError(f"{url}: {error}") from error

    exists = fs.exists(path)
    is_multiple = fs.isdir(path) or "*" in path
    if not is_multiple:
        candidates = [path]
    elif exists:
        candidates = fs.ls(path, detail=False)
    else:
        candidates = fs.glob(path)

    names = []
    for name in sorted(candidates):
        if name.endswith(SUFFIXES) and not Path(name).name.startswith("."):
            names.append(name)
    if not names or not (is_multiple or exists):
        raise BatchError(f"{url}: no {' or '.join(SUFFIXES)} file found")

    if "://" in url:
        names = [fs.unstrip_protocol(name) for name in names]
    return names, is_multiple


@contextmanager
def staged_output(
    fs: Any, directory: str, name: str, stale_patterns: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Give a staging directory, and a list for the names of the files that are completed in it.

    At the end these are moved to `directory`, or nothing is if an error occurs. The staging
    directory is inside `directory`, so that moving is renaming. Files that a killed run left are
    removed, and so are files in `directory` that match `stale_patterns` and were not written anew.
    Raises BatchError if another run writes there.
    """
    staging_dir = f"{directory}/.{name or 'all'}.batch"
    is_local = isinstance(fs, LocalFileSystem)
    created = not fs.exists(directory)
    completed: list[str] = []

    fs.makedirs(staging_dir, exist_ok=True)
    with ExitStack() as stack:
        if is_local:
            lock_directory(staging_dir, directory, stack)
            for leftover in Path(staging_dir).iterdir():
                leftover.unlink()
        try:
            yield fs.unstrip_protocol(staging_dir), completed
            for file_name in completed:
                if is_local:
                    flush_to_disk(f"{staging_dir}/{file_name}")
                fs.mv(f"{staging_dir}/{file_name}", f"{directory}/{file_name}")
                created = False
            remove_stale_files(fs, directory, stale_patterns, completed)
        finally:
            with suppress(FileNotFoundError):
                fs.rm(staging_dir, recursive=True)
            if created:
                with suppress(OSError):
                    fs.rmdir(directory)


def lock_directory(staging_dir: str, directory: str, stack: ExitStack) -> None:
    """Lock the staging directory until `stack` is closed. Raises BatchError if it is locked."""
    lock = os.open(staging_dir, os.O_RDONLY)
    stack.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BatchError(f"{directory}: another run is writing there") from error


def remove_stale_files(fs: Any, directory: str, patterns: list[str], completed: list[str]) -> None:
    """Remove the files in `directory` that match `patterns`, except those that are completed."""
    for pattern in patterns:
        for path in fs.glob(f"{directory}/{pattern}"):
            if path.rpartition("/")[2] not in completed:
                fs.rm(path)


def flush_to_disk(path: str) -> None:
    """Flush a local file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
