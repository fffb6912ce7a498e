"""Data sets of many files: partitioned directories, patterns, and Parquet as others write it."""

import csv
from urllib.parse import quote

import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from batches import GOOD_LINE, HEADER, batch_error, list_names, run_batch
from fixture_models import PENGUINS, load_penguins, model_file
from helpers import NAMES
from serving.model.loading import load_model


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
    """Write penguins, partitioned by island and sex; "parquet" and "csv" are DuckDB's."""
    path = model_file("penguins")
    frame = load_penguins()
    if writer == "pandas":
        frame.to_parquet(directory, partition_cols=["island", "sex"])
    elif writer == "polars":
        pl.from_pandas(frame).write_parquet(directory, partition_by=["island", "sex"])
    elif writer in ("parquet", "csv"):
        copy = f"COPY (FROM read_csv('{PENGUINS}', nullstr = 'NA')) TO '{directory}'"
        duckdb.sql(f"{copy} (FORMAT {writer}, PARTITION_BY (island, sex))")
    else:
        write_like_spark(frame, directory)
    return path, frame


@pytest.mark.parametrize("writer", ["pandas", "polars", "spark", "parquet", "csv"])
def test_partitions_are_columns(tmp_path, writer):
    """Columns in the names of folders are read, missing values too, and the layout is kept."""
    path, frame = write_hive(writer, tmp_path / "in")
    printed = run_batch(tmp_path / "in", tmp_path / "out", "--model", path, "--proba")
    assert printed.startswith("344 rows in ") and "bad rows  0" in printed

    def layout(root):
        names = root.rglob("[!._]*")
        files = [path for path in names if path.is_file() and path.stat().st_size]
        return sorted(str(path.relative_to(root)) for path in files)

    assert layout(tmp_path / "out") == layout(tmp_path / "in")
    probabilities = []
    for name in layout(tmp_path / "out"):
        output = tmp_path / "out" / name
        if name.endswith(".csv"):
            with output.open(newline="") as file:
                probabilities += [row["probability_Adelie"] for row in csv.DictReader(file)]
        else:
            table = pq.ParquetFile(output).read()
            probabilities += table.column("probability_Adelie").to_pylist()
    model = load_model(path)
    expected = model.estimator.predict_proba(frame[model.features])[:, 0]
    np.testing.assert_allclose(sorted(map(float, probabilities)), sorted(expected))


def test_bad_folder_name_is_one_line(tmp_path):
    """A folder whose name has no value of its feature is an error with its file."""
    source = tmp_path / "petal width (cm)=wide" / "a.csv"
    source.parent.mkdir()
    source.write_text(f"{HEADER.rpartition(',')[0]}\n{GOOD_LINE.rpartition(',')[0]}\n")
    error = batch_error(source.parent, tmp_path / "out")
    reason = "the folder's name: 'petal width (cm)': expected a number, got 'wide'"
    assert error == f"{source}: {reason}"


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


def test_many_files_are_one_output(tmp_path):
    """If OUTPUT names a file, all inputs are in it, with the columns in names of folders."""
    head, good = (f"{text},{tail}" for text, tail in ((HEADER, "n"), (GOOD_LINE, "1")))
    bodies = {
        "kind=b, c": f"\ufeff{head}\r\n{good}\r\nx,1,1,1,2",
        "kind=d": f"{head}\n{good}\n",
        "kind=e": f"{head}\n",
        "kind=__HIVE_DEFAULT_PARTITION__": f'{head}\n{good[:-1]}"3"',
    }
    for folder, body in bodies.items():
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "part.csv").write_bytes(body.encode())
    output = tmp_path / "out.csv"
    printed = run_batch(tmp_path / "in", output, "--on-error", "null")
    assert printed.startswith("4 rows in ") and f"  bad rows  1\n            {output}." in printed
    # The files are in the order of their names, and the header is that of the first.
    assert output.read_bytes().decode() == (
        f'{head},kind,prediction,label\n{good[:-1]}"3",,0,setosa\n'
        f'{good},"b, c",0,setosa\r\nx,1,1,1,2,"b, c",,\r\n{good},d,0,setosa\n'
    )
    [record] = (tmp_path / "out.csv.errors.ndjson").read_bytes().splitlines()
    assert msgspec.json.decode(record) == {
        "file": str(tmp_path / "in/kind=b, c/part.csv"),
        "row": 2,
        "line": 3,
        "reason": "'sepal length (cm)': expected a number, got 'x'",
    }

    run_batch(tmp_path / "in", tmp_path / "out.parquet", "--on-error", "skip")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("kind").to_pylist() == [None, "b, c", "d"]
    assert table.column("n").to_pylist() == ["3", "1", "1"]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("out.csv", f"{HEADER},n\n{GOOD_LINE},1\n"),
        ("out.parquet", f"{HEADER},n\n{GOOD_LINE},1\n"),
        ("out.csv", f"{HEADER}\n{GOOD_LINE}\n".replace(",", "|")),
        ("out.csv", f"{HEADER}\r{GOOD_LINE}\r"),
    ],
)
def test_one_output_has_one_layout(tmp_path, target, body):
    """A file with other columns, or in CSV of another format, ends a job with one output."""
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    (tmp_path / "b.csv").write_text(body, newline="")
    error = run_batch(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / target, status=1)
    message = "the columns or the format differ from those of the first file"
    assert error.splitlines()[-1] == f"{tmp_path / 'b.csv'}: {message}"
    assert list_names(tmp_path) == ["a.csv", "b.csv"]
