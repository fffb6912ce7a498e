"""Data sets of many files: partitioned directories, patterns, and Parquet as others write it."""

import csv
from urllib.parse import quote

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from batches import GOOD_LINE, HEADER, list_names, run_batch
from fixture_models import load_penguins, model_file
from helpers import NAMES


def write_like_spark(frame, directory):
    """Write CSV as Spark does: a folder for each value, escaped, and checksums beside the files."""
    for values, group in frame.groupby(["island", "sex"], dropna=False):
        folder = directory
        for name, value in zip(["island", "sex"], values, strict=True):
            text = "__HIVE_DEFAULT_PARTITION__" if pd.isna(value) else quote(value)
            folder /= f"{name}={text}"
        folder.mkdir(parents=True)
        part = "part-00000-0b6e5b1c-6a4d-4b2e.c000.csv"
        group.drop(columns=["island", "sex"]).to_csv(folder / part, index=False)
        (folder / f".{part}.crc").write_bytes(b"crc")
        (folder / "part-00001-0b6e5b1c-6a4d-4b2e.c000.csv").touch()  # a part without rows
    (directory / "_SUCCESS").touch()


def write_hive(writer, directory):
    """Write rows of penguins, partitioned by their island and sex, as a library does."""
    path = model_file("penguins")
    frame = load_penguins()
    if writer == "pandas":
        frame.to_parquet(directory, partition_cols=["island", "sex"])
    elif writer == "polars":
        pl.from_pandas(frame).write_parquet(directory, partition_by=["island", "sex"])
    else:
        write_like_spark(frame, directory)
    return path, frame


@pytest.mark.parametrize("writer", ["pandas", "polars", "spark"])
def test_partitions_are_columns(tmp_path, writer):
    """Columns in the names of folders are read, missing values too, and the layout is kept."""
    path, frame = write_hive(writer, tmp_path / "in")
    printed = run_batch(tmp_path / "in", tmp_path / "out", "--model", path)
    assert printed.startswith("344 rows in ") and "bad rows  0" in printed

    def layout(root):
        names = root.rglob("[!._]*")
        files = [path for path in names if path.is_file() and path.stat().st_size]
        return sorted(str(path.relative_to(root)) for path in files)

    assert layout(tmp_path / "out") == layout(tmp_path / "in")
    classes = set(frame["species"])
    for name in layout(tmp_path / "out"):
        output = tmp_path / "out" / name
        if name.endswith(".csv"):
            with output.open(newline="") as file:
                predictions = {row["prediction"] for row in csv.DictReader(file)}
        else:
            predictions = set(pq.ParquetFile(output).read().column("prediction").to_pylist())
        assert predictions <= classes
        assert "island=Torgersen" not in name or predictions == {"Adelie"}


def test_folders_and_patterns_keep_their_layout(tmp_path):
    """Files of one name in two folders have two outputs; ** finds them at any depth."""
    for folder in ("year=2024", "year=2025/month=1"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "part.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    assert run_batch(f"{tmp_path}/in/**/*.csv", tmp_path / "out").startswith("2 rows in ")
    assert (tmp_path / "out/year=2025/month=1/part.csv").read_text().endswith(",0,setosa\n")
    assert list_names(tmp_path / "out") == ["year=2024", "year=2025"]
    run_batch(tmp_path / "in/year=2024", tmp_path / "kept", "--keep", "year")
    assert (tmp_path / "kept/part.csv").read_text() == "year,prediction,label\n2024,0,setosa\n"


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_parquet_codec_stays(tmp_path, codec):
    """Parquet keeps its codec, none included, and the types of its columns."""
    frame = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=NAMES).astype("float32")
    frame["day"] = pd.to_datetime(["2024-01-01"])
    frame.to_parquet(tmp_path / "in.parquet", compression=None if codec == "none" else codec)
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    before, after = (pq.ParquetFile(tmp_path / f"{name}.parquet") for name in ("in", "out"))
    for file in (before, after):
        name = file.metadata.row_group(0).column(0).compression
        assert name == {"none": "UNCOMPRESSED"}.get(codec, codec.upper())
    for name in frame.columns:
        assert after.schema_arrow.field(name).type == before.schema_arrow.field(name).type
