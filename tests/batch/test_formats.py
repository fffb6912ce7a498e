"""Formats of the batch: CSV and Parquet, files, directories and URLs."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batches import (
    HEADER,
    LABELS,
    MODEL,
    expected_predictions,
    iris_table,
    list_names,
    read_csv_rows,
    run_batch,
)
from helpers import MODEL_FILE, NAMES, ROOT


@pytest.mark.parametrize("source", ["in.csv", "in.csv.gz", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
def test_converts_between_formats(tmp_path, source, target):
    """Each format is written as each other one, with the predictions of the estimator itself."""
    data = iris_table(100_000)
    if source.endswith(".parquet"):
        pq.write_table(data, tmp_path / source, row_group_size=30_000)
    else:
        with (gzip.open if source.endswith(".gz") else open)(tmp_path / source, "wb") as file:
            pyarrow.csv.write_csv(data, file)
    printed = run_batch(tmp_path / source, tmp_path / target, "--proba")
    if target.endswith(".parquet"):
        output = pq.read_table(tmp_path / target)
        assert output.schema.metadata[b"model_version"].decode() == MODEL.version
    else:
        with (gzip.open if target.endswith(".gz") else open)(tmp_path / target, "rb") as file:
            output = pyarrow.csv.read_csv(file)
    added = ["prediction", "label", *(f"probability_{label}" for label in LABELS)]
    assert output.column_names == [*data.column_names, *added]
    kept = output.select(data.column_names)
    assert kept.cast(data.schema).equals(data)
    answers = expected_predictions(data)
    np.testing.assert_array_equal(output.column("prediction").to_numpy(), answers)
    assert output.column("label").to_pylist() == [LABELS[value] for value in answers]
    probabilities = np.column_stack([output.column(name).to_numpy() for name in added[2:]])
    rows = np.column_stack([data.column(name).to_numpy() for name in NAMES])
    np.testing.assert_allclose(probabilities, MODEL.estimator.predict_proba(rows), rtol=1e-9)
    assert printed.startswith("100000 rows in ") and f", model version {MODEL.version}\n" in printed
    mix = np.bincount(answers) / 1e5
    class_mix = [f"{label} {share:.3f}" for label, share in zip(LABELS, mix, strict=True)]
    assert f"  classes   {', '.join(class_mix)}\n" in printed
    assert "  bad rows  0\n" in printed and list_names(tmp_path) == sorted([source, target])


def test_wide_parquet_is_scored_in_smaller_batches(tmp_path):
    """A table has fewer rows at a time if it is wide, so that memory does not grow with columns.

    The columns have few values, and are a tenth of their size in the file.
    """
    n_rows = 60_000
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.normal(size=n_rows).round(1) for i in range(200)}
    pq.write_table(iris_table(n_rows, **columns), tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(groups) == n_rows and max(groups) < 45_000


def test_dictionary_where_values_recur(tmp_path):
    """A column whose values hardly recur, such as an id, has no dictionary in Parquet."""
    recurring = pa.array(["a", "b"] * 10_000)
    table = iris_table(20_000, key=[f"key-{i}" for i in range(20_000)], word=recurring)
    pq.write_table(table, tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    output = pq.ParquetFile(tmp_path / "out.parquet")
    group = output.metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    plain = {chunk.path_in_schema for chunk in chunks if not chunk.has_dictionary_page}
    assert plain == {*NAMES, "id", "key"}
    assert output.read(table.column_names).equals(table)


def test_lists_are_kept(tmp_path):
    """A column of lists is copied, beside columns whose values recur or do not."""
    table = iris_table(20_000, tags=pa.array([["a", "b"], []] * 10_000))
    pq.write_table(table, tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet", columns=table.column_names).equals(table)


def test_plan_file_gives_the_same_output(tmp_path):
    """The plan file of a model writes the same table as its pickle."""
    pq.write_table(iris_table(1000), tmp_path / "in.parquet")
    model_path = Path(shutil.copy(MODEL_FILE, tmp_path))
    shutil.copy(MODEL_FILE.with_suffix(".json"), tmp_path)
    export = [sys.executable, "-m", "serving.export_plan", model_path]
    subprocess.run(export, cwd=ROOT, check=True, capture_output=True)

    outputs = []
    for path in (model_path, model_path.with_suffix(".plan")):
        run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--proba", "--model", path)
        outputs.append(pq.read_table(tmp_path / "out.parquet"))
    assert outputs[0].equals(outputs[1])


def test_csv_lines_stay_unchanged(tmp_path):
    """A line of CSV stays as it was written."""
    body = f'id,{HEADER},note\n007,5.10,3.5,1.4,0.2,"a ""b"", c"\n8,+6.3,3.30,6e0,2.5,5" pipe\n'
    (tmp_path / "in.csv").write_text(body)
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")
    lines = body.splitlines()
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        f"{lines[0]},prediction,label",
        f"{lines[1]},0,setosa",
        f"{lines[2]},2,virginica",
    ]


def test_keep_selects_columns(tmp_path):
    """--keep selects the columns of the output and their order."""
    pyarrow.csv.write_csv(iris_table(10, note=pa.array(["ä, b"] * 10)), tmp_path / "in.csv")
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--keep", "note", "id")
    head, *rows = read_csv_rows(tmp_path / "out.csv")
    assert head == ["note", "id", "prediction", "label"]
    assert [row[:2] for row in rows] == [["ä, b", str(i)] for i in range(10)]
    pq.write_table(iris_table(10), tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--keep")
    assert pq.read_schema(tmp_path / "out.parquet").names == ["prediction", "label"]


def test_scores_directory_pattern_url(tmp_path):
    """The input may be a directory, a pattern or a URL."""
    for name in ("a.csv", "b.csv"):
        pyarrow.csv.write_csv(iris_table(10), tmp_path / name)
    pq.write_table(iris_table(10), tmp_path / "c.parquet")
    (tmp_path / "notes.txt").write_text("not a table")
    assert run_batch(tmp_path, tmp_path / "all").startswith("30 rows")
    assert list_names(tmp_path / "all") == ["a.csv", "b.csv", "c.parquet"]
    assert run_batch(f"{tmp_path}/*.csv", f"file://{tmp_path}/some").startswith("20 rows")
    assert list_names(tmp_path / "some") == ["a.csv", "b.csv"]
    assert run_batch(f"file://{tmp_path}/a.csv", tmp_path / "some").startswith("10 rows")
    program = (
        "import sys, fsspec, batch\n"
        "memory = fsspec.filesystem('memory')\n"
        f"memory.pipe('/in/a.csv', open({str(tmp_path / 'a.csv')!r}, 'rb').read())\n"
        "sys.argv[1:] = ['memory://in/a.csv', 'memory://out/a.csv']\n"
        "batch.main()\n"
        f"assert memory.cat('/out/a.csv') == open({str(tmp_path / 'all/a.csv')!r}, 'rb').read()\n"
        "assert memory.find('/out') == ['/out/a.csv']\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_csv_quotes_bom_crlf(tmp_path):
    """CSV may have quotes, blank lines, a byte order mark and carriage returns."""
    rows = [
        '"5.1", 3.5 ,1.4,0.2,"two\r\nlines"',
        "",
        "6.3,3.3,6.0,2.5,plain",
        '"6.3","3.3","6.0","2.5",""',
    ]
    (tmp_path / "in.csv").write_bytes("\r\n".join([f"\ufeff{HEADER},note", *rows]).encode())
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")
    head, *output = read_csv_rows(tmp_path / "out.csv")
    assert head == [f"\ufeff{NAMES[0]}", *NAMES[1:], "note", "prediction", "label"]
    assert (tmp_path / "out.csv").read_bytes().endswith(b',"",2,virginica\r\n')
    assert [row[4:] for row in output] == [
        ["two\r\nlines", "0", "setosa"],
        ["plain", "2", "virginica"],
        ["", "2", "virginica"],
    ]


def test_empty_input_empty_output(tmp_path):
    """An input without rows gives an output without rows."""
    (tmp_path / "in.csv").write_text(HEADER)
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == f"{HEADER},prediction,label\n"
    pq.write_table(iris_table(10).slice(0, 0), tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--proba")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "out.parquet").field("prediction").type == pa.int64()


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.float32(), pa.decimal128(21, 2), pa.dictionary(pa.int8(), pa.int64())]
)
def test_accepts_numeric_types(tmp_path, kind):
    """Parquet columns of every numeric type are scored."""
    whole = pa.array([5, 6, 7])
    column = (
        whole.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else whole.cast(kind)
    )
    data = pa.table(
        dict.fromkeys(NAMES, column) | {"kind": pa.array(["a", "b", "a"]).dictionary_encode()}
    )
    pq.write_table(data, tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    output = pq.read_table(tmp_path / "out.parquet")
    assert (
        output.column("prediction").to_pylist()
        == MODEL.predict(np.tile([[5.0], [6], [7]], 4)).tolist()
    )
    assert output.column("kind").to_pylist() == ["a", "b", "a"]
