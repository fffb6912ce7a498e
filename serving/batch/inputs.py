"""Inputs of a job: which files they are, and how a file is opened."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from fsspec.compression import compr, register_compression
from fsspec.core import url_to_fs
from fsspec.utils import infer_compression

from serving.batch.stats import BatchError

SUFFIXES = "csv, .tsv (also .gz, .bz2, .xz, .zst, .zip) or .parquet"
FILE_NAME = re.compile(r"\.((csv|tsv)(\.(gz|bz2|xz|zst|zip))?|parquet)$", re.IGNORECASE)
WILDCARD = re.compile(r"[*?\[]")
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def find_filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path there. Raises BatchError."""
    try:
        return url_to_fs(url)  # type: ignore[no-any-return]  # fsspec is untyped
    except (ValueError, ImportError) as error:
        raise BatchError(f"{url}: {error}") from error


def is_table_file(path: str) -> bool:
    """Return whether the name of a file is that of an input or output."""
    return bool(FILE_NAME.search(path))


def is_parquet(path: str) -> bool:
    """Return whether the name of a file is that of a Parquet file."""
    return path.lower().endswith(".parquet")


def list_inputs(urls: Sequence[str]) -> tuple[dict[str, str], bool]:
    """Return the input files with the names of their outputs, and whether these need a directory.

    The files of a directory, in folders at any depth, and those that match a pattern keep their
    path below the directory or below the part of the pattern without a wildcard. Raises BatchError.
    """
    outputs: dict[str, str] = {}
    is_multiple = len(urls) > 1
    for url in urls:
        fs, path = find_filesystem(url)
        if fs.isdir(path):
            is_multiple = True
            base = path.rstrip("/")
            candidates = fs.find(path)
        elif fs.exists(path):
            base = path.rpartition("/")[0]
            candidates = [path]
            if not is_table_file(path):
                raise BatchError(f"{url}: expected a name that ends in .{SUFFIXES}")
        elif WILDCARD.search(path):
            is_multiple = True
            base = path[: WILDCARD.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
            candidates = [name for name in fs.glob(path) if not fs.isdir(name)]
        else:
            raise BatchError(f"{url}: no such file")

        names = [name for name in sorted(candidates) if is_data_file(name, base)]
        if is_multiple:
            # Spark writes files without a byte, header included, for partitions without rows.
            names = [name for name in names if fs.size(name)]
        if not names:
            raise BatchError(f"{url}: no file found whose name ends in .{SUFFIXES}")
        for name in names:
            full_name = name
            if "://" in url:
                full_name = fs.unstrip_protocol(name)
            outputs[full_name] = output_name(name[len(base) :].lstrip("/"))
    return outputs, is_multiple


def is_data_file(path: str, base: str) -> bool:
    """Return whether a file below `base` is an input: hidden files and folders are not."""
    parts = PurePosixPath(path[len(base) :]).parts
    is_hidden = any(part.startswith((".", "_")) and "=" not in part for part in parts)
    return is_table_file(path) and not is_hidden


def output_name(name: str) -> str:
    """Return the name of an output of the same format; a .zip is not written."""
    if name.lower().endswith(".zip"):
        return name[: -len(".zip")]
    return name


def partition_values(path: str) -> dict[str, str | None]:
    """Return the columns in the names of a file's folders, such as `year=2024`."""
    values: dict[str, str | None] = {}
    for part in PurePosixPath(path).parts[:-1]:
        name, equals, value = part.partition("=")
        if name and equals:
            values[unquote(name)] = None if value == HIVE_NULL else unquote(value)
    return values


def open_compressed(file: Any, path: str, mode: str) -> Any:
    """Return what reads or writes a file, whose compression its name tells. Raises BatchError."""
    compression = infer_compression(path)
    if compression == "zip":
        n_members = len(zipfile.ZipFile(file).namelist())
        if n_members != 1:
            raise BatchError(f"expected one file in the archive, got {n_members}")
    return compr[compression](file, mode=mode)


def open_zstandard(file: Any, mode: str) -> Any:
    """Return what reads or writes a file with the codec of pyarrow: no other package is needed."""
    if mode == "rb":
        return pa.CompressedInputStream(file, "zstd")
    return pa.CompressedOutputStream(pa.PythonFile(file), "zstd")


register_compression("zstd", open_zstandard, "zst", force=True)
