"""Rows and files that the batch cannot score."""

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batches import (
    GOOD_LINE,
    HEADER,
    batch_error,
    iris_table,
    list_names,
    read_csv_rows,
    run_batch,
)
from helpers import NAMES


@pytest.mark.parametrize("on_error", ["null", "skip"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_bad_rows_are_listed(tmp_path, on_error, target):
    """Bad rows are counted, and listed in a file beside the output."""
    lines = [
        GOOD_LINE,
        "5.1,,1.4,0.2",
        GOOD_LINE,
        "x,3.5,1.4,0.2",
        "5.1,3.5,nan,0.2",
        "5.1,3.5,inf,0.2",
        "5.1,3.5,1e39,0.2",
    ]
    lines += ["true,3.5,1.4,0.2", "5.1,3.5", "0x1,1,1,1", GOOD_LINE]
    (tmp_path / "in.csv").write_text("\n".join([HEADER, *lines, ""]))
    (tmp_path / f"{target}.errors.ndjson").write_text("of an earlier run")
    printed = run_batch(tmp_path / "in.csv", tmp_path / target, "--on-error", on_error)
    assert "11 rows" in printed and "bad rows  8" in printed and "setosa 1.000" in printed

    errors_path = tmp_path / f"{target}.errors.ndjson"
    errors = [msgspec.json.decode(line) for line in errors_path.read_bytes().splitlines()]
    assert [(error["row"], error["line"]) for error in errors] == [
        (row, row + 1) for row in (2, 4, 5, 6, 7, 8, 9, 10)
    ]
    assert [error["reason"] for error in errors] == [
        "'sepal width (cm)': expected a number, got null",
        "'sepal length (cm)': expected a number, got 'x'",
        "'petal length (cm)': expected a finite number, got nan",
        "'petal length (cm)': expected a finite number, got inf",
        "'petal length (cm)': expected a number within 3.4e+38, got 1e+39",
        "'sepal length (cm)': expected a number, got 'true'",
        "expected 4 values, got 2",
        "'sepal length (cm)': expected a number, got '0x1'",
    ]

    if target == "out.csv":
        output = [row[-2:] for row in read_csv_rows(tmp_path / target)[1:]]
    else:
        columns = (
            pq.read_table(tmp_path / target, columns=["prediction", "label"]).to_pydict().values()
        )
        output = [
            ["" if value is None else str(value) for value in row]
            for row in zip(*columns, strict=True)
        ]

    good = ["0", "setosa"]
    null = ["", ""]
    # The row with too few values is not in the output.
    assert output == ([good] * 3 if on_error == "skip" else [good, null, good, *[null] * 6, good])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "line 1: expected the names of columns"),
        ("\xff\n", "line 1: expected the names of columns"),
        ("a,b\n1,2\n", f"missing columns {', '.join(map(repr, NAMES))}; found 'a', 'b'"),
        (
            f"{GOOD_LINE}\n",
            f"missing columns {', '.join(map(repr, NAMES))}; found '5.1', '3.5', '1.4', '0.2'; "
            "if the first line has values, use --no-header",
        ),
        (f"{HEADER},{NAMES[0]}\n", "column 'sepal length (cm)' occurs 2 times"),
        (f"{HEADER},label\n", "output column 'label' already exists; exclude it with --keep"),
        (
            f"{HEADER}\n{GOOD_LINE}\n5.1,3.5,one,0.2\n",
            "row 2 (line 3): 'petal length (cm)': expected a number, got 'one'",
        ),
        (
            f"{HEADER}\n5.1,3.5,1.4,1e39\n",
            "row 1 (line 2): 'petal width (cm)': expected a number within 3.4e+38, got 1e+39",
        ),
        (
            f"{HEADER}\n5.1,3.5,1.4,-inf\n",
            "row 1 (line 2): 'petal width (cm)': expected a finite number, got -inf",
        ),
        (f'{HEADER},n\n{GOOD_LINE},"a\n{GOOD_LINE},b\n', "unbalanced quotation mark"),
    ],
)
def test_invalid_csv_keeps_output(tmp_path, body, message):
    """A CSV that cannot be scored is an error with its place, and the old output stays."""
    (tmp_path / "in.csv").write_bytes(body.encode("latin-1"))
    (tmp_path / "out.csv").write_text("old")
    line = batch_error(tmp_path / "in.csv", tmp_path / "out.csv")
    assert line.startswith(f"{tmp_path / 'in.csv'}: {message}")
    assert (tmp_path / "out.csv").read_text() == "old" and list_names(tmp_path) == [
        "in.csv",
        "out.csv",
    ]


def test_finds_late_bad_row(tmp_path):
    """A text in row 3,000,000 is an error with its place."""
    with (tmp_path / "in.csv").open("w") as file:
        file.write(
            f"{HEADER}\n"
            + f"{GOOD_LINE}\n" * 2_999_999
            + "5.1,3.5,oops,0.2\n"
            + f"{GOOD_LINE}\n" * 10
        )
    line = batch_error(tmp_path / "in.csv", tmp_path / "out.parquet")
    assert line.endswith(
        "in.csv: row 3000000 (line 3000001): 'petal length (cm)': expected a number, got 'oops'"
    )
    assert list_names(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("column", [pa.array(["5.1"]), pa.array([True]), pa.array([[5.1]])])
def test_rejects_non_numeric_types(tmp_path, column):
    """A Parquet column that is not numeric is an error that names its type."""
    pq.write_table(pa.table(dict.fromkeys(NAMES, column)), tmp_path / "in.parquet")
    line = batch_error(tmp_path / "in.parquet", tmp_path / "out.parquet")
    kind = pq.read_schema(tmp_path / "in.parquet").field(0).type
    assert line.endswith(f"in.parquet: column 'sepal length (cm)': expected numbers, got {kind}")


def test_locates_parquet_null(tmp_path):
    """A null in Parquet is an error with its row."""
    data = iris_table(10).to_pydict()
    data[NAMES[1]][6] = None
    pq.write_table(pa.table(data), tmp_path / "in.parquet", row_group_size=4)
    line = batch_error(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert line.endswith("in.parquet: row 7: 'sepal width (cm)': expected a number, got null")


def test_handles_invalid_utf8(tmp_path):
    """Text that is not UTF-8 stays as it is in CSV, and is a bad row in Parquet."""
    (tmp_path / "in.csv").write_bytes(
        f"{HEADER},n\n{GOOD_LINE},a\n{GOOD_LINE},\xff\n".encode("latin-1")
    )
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().endswith(b",\xff,0,setosa\n")
    assert "in.csv: row 2 (line 3): 'n': expected UTF-8, got '\ufffd'" in batch_error(
        tmp_path / "in.csv", tmp_path / "out.parquet"
    )
    run_batch(tmp_path / "in.csv", tmp_path / "out.parquet", "--on-error", "null")
    assert pq.read_table(tmp_path / "out.parquet").column("n").to_pylist() == ["a", None]
