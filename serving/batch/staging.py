"""Outputs of a job: they appear whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from serving.batch.stats import BatchError


@contextmanager
def staged_output(
    fs: Any, directory: str, name: str, stale_patterns: list[str]
) -> Iterator[tuple[str, dict[str, None]]]:
    """Give a staging directory, and a dict whose keys are the files that are completed in it.

    At the end these are moved to `directory`, or nothing is if an error occurs. The staging
    directory is inside `directory`, so that moving is renaming. What killed runs left there is
    removed, and so are files in `directory` that match `stale_patterns` and were not written anew.
    Raises BatchError if another run writes there, or nobody may.
    """
    staging_dir = f"{directory}/.{name or 'all'}.batch"
    is_local = isinstance(fs, LocalFileSystem)
    created = not fs.exists(directory)
    completed: dict[str, None] = {}

    with ExitStack() as stack:
        try:
            if is_local:
                remove_leftovers(Path(directory))
            fs.makedirs(staging_dir, exist_ok=True)
            if is_local:
                stack.callback(os.close, lock_directory(Path(staging_dir)))
        except OSError as error:
            raise BatchError(f"{directory}/{name}: {error.strerror or error}") from error
        try:
            yield fs.unstrip_protocol(staging_dir), completed
            for file_name in completed:
                if is_local:
                    flush_to_disk(f"{staging_dir}/{file_name}")
                    Path(directory, file_name).parent.mkdir(parents=True, exist_ok=True)
                fs.mv(f"{staging_dir}/{file_name}", f"{directory}/{file_name}")
                created = False
            remove_stale_files(fs, directory, stale_patterns, completed)
        finally:
            with suppress(FileNotFoundError):
                fs.rm(staging_dir, recursive=True)
            if created:
                with suppress(OSError):
                    fs.rmdir(directory)


def lock_directory(staging_dir: Path) -> int:
    """Lock a staging directory until the result is closed. Raises BatchError if it is locked."""
    lock = os.open(staging_dir, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise BatchError(f"{staging_dir.parent}: another run is writing there") from error
    return lock


def remove_leftovers(directory: Path) -> None:
    """Remove the staging directories of runs that were killed."""
    for staging_dir in directory.glob(".*.batch"):
        with suppress(BatchError, FileNotFoundError):  # that run is at work, or has just ended
            lock = lock_directory(staging_dir)
            shutil.rmtree(staging_dir)
            os.close(lock)


def remove_stale_files(
    fs: Any, directory: str, patterns: list[str], completed: Collection[str]
) -> None:
    """Remove the files in `directory` that match `patterns`, except those that are completed."""
    for pattern in patterns:
        for path in fs.glob(f"{directory}/{pattern}"):
            if path[len(directory) :].lstrip("/") not in completed:
                fs.rm(path)


def flush_to_disk(path: str) -> None:
    """Flush a local file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
