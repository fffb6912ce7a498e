"""batch.py as a program: files and streams, the numbers that the service gives, and what a fault leaves behind."""

import contextlib
import csv
import gzip
import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from batches import (
    BATCH,
    GOOD,
    HEADER,
    IRIS,
    LABELS,
    MODEL,
    batch,
    expected,
    listing,
    member,
    refused,
    table,
    written,
)
from helpers import NAMES, ROOT, wait_until
from serving.batch.csv_lines import find_first_line_end, find_last_line_end, iter_blocks
from serving.model.card import FeatureInfo
from serving.model.storage import save_model
from serving.monitoring.drift import bin_shares, quantile_edges


@pytest.mark.parametrize("source", ["in.csv", "in.csv.gz", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
def test_every_format_to_every_other_with_the_estimators_own_answers(tmp_path, source, target):
    data = table(100_000)
    if source.endswith(".parquet"):
        pq.write_table(data, tmp_path / source, row_group_size=30_000)
    else:
        with (gzip.open if source.endswith(".gz") else open)(tmp_path / source, "wb") as file:
            pyarrow.csv.write_csv(data, file)
    printed = batch(tmp_path / source, tmp_path / target, "--proba")
    if target.endswith(".parquet"):
        found = pq.read_table(tmp_path / target)
        assert found.schema.metadata[b"model_version"].decode() == MODEL.version
    else:
        with (gzip.open if target.endswith(".gz") else open)(tmp_path / target, "rb") as file:
            found = pyarrow.csv.read_csv(file)
    added = ["prediction", "label", *(f"probability_{label}" for label in LABELS)]
    assert found.column_names == [*data.column_names, *added]
    kept = found.select(data.column_names)
    assert kept.cast(data.schema).equals(data)
    answers = expected(data)
    np.testing.assert_array_equal(found.column("prediction").to_numpy(), answers)
    assert found.column("label").to_pylist() == [LABELS[value] for value in answers]
    probabilities = np.column_stack([found.column(name).to_numpy() for name in added[2:]])
    rows = np.column_stack([data.column(name).to_numpy() for name in NAMES])
    np.testing.assert_allclose(probabilities, MODEL.estimator.predict_proba(rows), rtol=1e-9)
    assert printed.startswith("100000 rows in ") and f", model version {MODEL.version}\n" in printed
    mix = np.bincount(answers) / 1e5
    assert (
        f"  classes   {', '.join(f'{label} {share:.3f}' for label, share in zip(LABELS, mix, strict=True))}"
        in printed
    )
    assert "  bad rows  0\n" in printed and listing(tmp_path) == sorted([source, target])


def test_a_line_of_csv_is_carried_through_as_it_was_written(tmp_path):
    body = f'id,{HEADER},note\n007,5.10,3.5,1.4,0.2,"a ""b"", c"\n8,+6.3,3.30,6e0,2.5,5" pipe\n'
    (tmp_path / "in.csv").write_text(body)
    batch(tmp_path / "in.csv", tmp_path / "out.csv")
    lines = body.splitlines()
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        f"{lines[0]},prediction,label",
        f"{lines[1]},0,setosa",
        f"{lines[2]},2,virginica",
    ]


def test_keep_chooses_what_is_carried_through_and_in_which_order(tmp_path):
    pyarrow.csv.write_csv(table(10, note=pa.array(["ä, b"] * 10)), tmp_path / "in.csv")
    batch(tmp_path / "in.csv", tmp_path / "out.csv", "--keep", "note", "id")
    head, *rows = written(tmp_path / "out.csv")
    assert head == ["note", "id", "prediction", "label"]
    assert [row[:2] for row in rows] == [["ä, b", str(i)] for i in range(10)]
    pq.write_table(table(10), tmp_path / "in.parquet")
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--keep")
    assert pq.read_schema(tmp_path / "out.parquet").names == ["prediction", "label"]


def test_a_directory_a_pattern_and_a_url(tmp_path):
    for name in ("a.csv", "b.csv"):
        pyarrow.csv.write_csv(table(10), tmp_path / name)
    pq.write_table(table(10), tmp_path / "c.parquet")
    (tmp_path / "notes.txt").write_text("not a table")
    assert batch(tmp_path, tmp_path / "all").startswith("30 rows")
    assert listing(tmp_path / "all") == ["a.csv", "b.csv", "c.parquet"]
    assert batch(f"{tmp_path}/*.csv", f"file://{tmp_path}/some").startswith("20 rows")
    assert listing(tmp_path / "some") == ["a.csv", "b.csv"]
    assert batch(f"file://{tmp_path}/a.csv", tmp_path / "some").startswith("10 rows")
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


def test_quotes_blank_lines_a_bom_and_carriage_returns(tmp_path):
    rows = [
        '"5.1", 3.5 ,1.4,0.2,"two\r\nlines"',
        "",
        "6.3,3.3,6.0,2.5,plain",
        '"6.3","3.3","6.0","2.5",""',
    ]
    (tmp_path / "in.csv").write_bytes("\r\n".join([f"\ufeff{HEADER},note", *rows]).encode())
    batch(tmp_path / "in.csv", tmp_path / "out.csv")
    head, *found = written(tmp_path / "out.csv")
    assert head == [*NAMES, "note", "prediction", "label"]
    assert [row[4:] for row in found] == [
        ["two\r\nlines", "0", "setosa"],
        ["plain", "2", "virginica"],
        ["", "2", "virginica"],
    ]


@pytest.mark.parametrize("on_error", ["null", "skip"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_bad_rows_are_counted_and_written_beside(tmp_path, on_error, target):
    lines = [
        GOOD,
        "5.1,,1.4,0.2",
        GOOD,
        "x,3.5,1.4,0.2",
        "5.1,3.5,nan,0.2",
        "5.1,3.5,inf,0.2",
        "5.1,3.5,1e39,0.2",
    ]
    lines += ["true,3.5,1.4,0.2", "5.1,3.5", "0x1,1,1,1", GOOD]
    (tmp_path / "in.csv").write_text("\n".join([HEADER, *lines, ""]))
    (tmp_path / f"{target}.errors.ndjson").write_text("of an earlier run")
    printed = batch(tmp_path / "in.csv", tmp_path / target, "--on-error", on_error)
    assert "11 rows" in printed and "bad rows  8" in printed and "setosa 1.000" in printed
    errors = [
        *map(msgspec.json.decode, (tmp_path / f"{target}.errors.ndjson").read_bytes().splitlines())
    ]
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
        found = [row[-2:] for row in written(tmp_path / target)[1:]]
    else:
        columns = (
            pq.read_table(tmp_path / target, columns=["prediction", "label"]).to_pydict().values()
        )
        found = [
            ["" if value is None else str(value) for value in row]
            for row in zip(*columns, strict=True)
        ]
    good, null = ["0", "setosa"], ["", ""]
    # The row that lacks values has no place in a table.
    assert found == ([good] * 3 if on_error == "skip" else [good, null, good, *[null] * 6, good])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "line 1: expected the names of columns"),
        ("\xff\n", "line 1: expected the names of columns"),
        ("a,b\n1,2\n", "missing column 'sepal length (cm)'; found 'a', 'b'"),
        (f"{HEADER},{NAMES[0]}\n", "column 'sepal length (cm)' occurs 2 times"),
        (f"{HEADER},label\n", "output column 'label' already exists; exclude it with --keep"),
        (
            f"{HEADER}\n{GOOD}\n5.1,3.5,one,0.2\n",
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
        (f'{HEADER},n\n{GOOD},"a\n{GOOD},b\n', "unbalanced quotation mark"),
    ],
)
def test_a_csv_that_cannot_be_scored_is_refused_with_the_place_and_leaves_the_old_output(
    tmp_path, body, says
):
    (tmp_path / "in.csv").write_bytes(body.encode("latin-1"))
    (tmp_path / "out.csv").write_text("old")
    line = refused(tmp_path / "in.csv", tmp_path / "out.csv")
    assert line.startswith(f"{tmp_path / 'in.csv'}: {says}")
    assert (tmp_path / "out.csv").read_text() == "old" and listing(tmp_path) == [
        "in.csv",
        "out.csv",
    ]


def test_only_a_header_or_no_rows_is_an_output_without_rows(tmp_path):
    (tmp_path / "in.csv").write_text(HEADER)
    batch(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == f"{HEADER},prediction,label\n"
    pq.write_table(table(10).slice(0, 0), tmp_path / "in.parquet")
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--proba")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "out.parquet").field("prediction").type == pa.int64()


def test_a_string_in_row_three_million_is_found(tmp_path):
    with (tmp_path / "in.csv").open("w") as file:
        file.write(
            f"{HEADER}\n" + f"{GOOD}\n" * 2_999_999 + "5.1,3.5,oops,0.2\n" + f"{GOOD}\n" * 10
        )
    line = refused(tmp_path / "in.csv", tmp_path / "out.parquet")
    assert line.endswith(
        "in.csv: row 3000000 (line 3000001): 'petal length (cm)': expected a number, got 'oops'"
    )
    assert listing(tmp_path) == ["in.csv"]


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.float32(), pa.decimal128(21, 2), pa.dictionary(pa.int8(), pa.int64())]
)
def test_numbers_of_any_kind_are_numbers(tmp_path, kind):
    whole = pa.array([5, 6, 7])
    column = (
        whole.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else whole.cast(kind)
    )
    data = pa.table(
        dict.fromkeys(NAMES, column) | {"kind": pa.array(["a", "b", "a"]).dictionary_encode()}
    )
    pq.write_table(data, tmp_path / "in.parquet")
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert (
        found.column("prediction").to_pylist()
        == MODEL.predict(np.tile([[5.0], [6], [7]], 4)).tolist()
    )
    assert found.column("kind").to_pylist() == ["a", "b", "a"]


@pytest.mark.parametrize("column", [pa.array(["5.1"]), pa.array([True]), pa.array([[5.1]])])
def test_what_is_no_number_in_parquet_is_refused_by_its_type(tmp_path, column):
    pq.write_table(pa.table(dict.fromkeys(NAMES, column)), tmp_path / "in.parquet")
    line = refused(tmp_path / "in.parquet", tmp_path / "out.parquet")
    kind = pq.read_schema(tmp_path / "in.parquet").field(0).type
    assert line.endswith(f"in.parquet: column 'sepal length (cm)': expected numbers, got {kind}")


def test_nulls_in_parquet_have_a_row(tmp_path):
    data = table(10).to_pydict()
    data[NAMES[1]][6] = None
    pq.write_table(pa.table(data), tmp_path / "in.parquet", row_group_size=4)
    line = refused(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert line.endswith("in.parquet: row 7: 'sepal width (cm)': expected a number, got null")


def test_files_that_cannot_be_read_or_written_are_one_line(tmp_path):
    (tmp_path / "in.parquet").write_bytes(b"PAR1 not really PAR1")
    assert refused(tmp_path / "in.parquet", tmp_path / "out.csv").startswith(
        f"{tmp_path / 'in.parquet'}: "
    )
    (tmp_path / "in.csv.gz").write_bytes(
        gzip.compress(f"{HEADER}\n{GOOD}\n".encode() * 10_000)[:-20]
    )
    assert refused(tmp_path / "in.csv.gz", tmp_path / "out.csv").startswith(
        f"{tmp_path / 'in.csv.gz'}: "
    )
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")
    for words, says in (
        ((tmp_path / "none.csv", tmp_path / "out.csv"), "none.csv: no .csv or "),
        ((tmp_path / "in.csv", tmp_path / "out.txt"), "out.txt: expected a name that ends in "),
        ((tmp_path / "in.csv", tmp_path / "in.csv"), "in.csv: OUTPUT is INPUT"),
        ((f"{tmp_path}/in.csv", tmp_path), "in.csv: OUTPUT is INPUT"),
        ((f"{tmp_path}/*.none", tmp_path), "*.none: no .csv or "),
        ((tmp_path / "in.csv", "/proc/out.csv"), "/proc"),
        (("nowhere://in.csv", tmp_path / "out.csv"), "nowhere"),
        ((tmp_path / "in.csv", tmp_path / "out.csv", "--keep", "id"), "in.csv: missing column 'id'"),
        (
            (tmp_path / "in.csv", tmp_path / "out.csv", "--model", tmp_path / "no.pkl"),
            "no.pkl: No such file",
        ),
    ):
        assert says in refused(*words)
    assert listing(tmp_path) == ["in.csv", "in.csv.gz", "in.parquet"]
    pq.write_table(table(1, nested=pa.array([[1]])), tmp_path / "in.parquet")
    assert "in.parquet: Unsupported Type" in refused(tmp_path / "in.parquet", tmp_path / "out.csv")
    for words in (
        ["-", tmp_path / "out"],
        ["in", "out", "--format", "csv"],
        ["-", "-", "--scheduler", "tcp://x"],
    ):
        assert "error: " in batch(*words, status=2)


def test_text_that_is_not_utf8_stays_in_csv_and_is_a_bad_row_elsewhere(tmp_path):
    (tmp_path / "in.csv").write_bytes(f"{HEADER},n\n{GOOD},a\n{GOOD},\xff\n".encode("latin-1"))
    batch(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().endswith(b",\xff,0,setosa\n")
    assert "in.csv: row 2 (line 3): 'n': expected UTF-8, got '\ufffd'" in refused(
        tmp_path / "in.csv", tmp_path / "out.parquet"
    )
    batch(tmp_path / "in.csv", tmp_path / "out.parquet", "--on-error", "null")
    assert pq.read_table(tmp_path / "out.parquet").column("n").to_pylist() == ["a", None]


def test_a_full_disk_leaves_the_old_output(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run(
        [*root, "mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", small], check=True
    )
    try:
        (small / "out.csv").write_text("old")
        (small / "out.parquet").write_text("old")
        pyarrow.csv.write_csv(table(100_000), tmp_path / "in.csv")
        for name in ("out.csv", "out.parquet"):
            assert (
                refused(tmp_path / "in.csv", small / name)
                == f"{tmp_path / 'in.csv'}: No space left on device"
            )
            assert (small / name).read_text() == "old"
        assert listing(small) == ["out.csv", "out.parquet"]
    finally:
        subprocess.run([*root, "umount", small], check=True)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_run_that_is_ended_leaves_the_old_output_and_the_next_one_is_right(
    tmp_path, number, status
):
    target = tmp_path / "out"
    target.mkdir()
    (target / "in.csv").write_text("old")
    big = tmp_path / "in.csv"
    with big.open("w") as file:
        file.write(f"{HEADER}\n" + f"{GOOD}\n" * 3_000_000)
    # Whoever starts the tests in the background has them ignore SIGINT, and a child would too.
    command = ["env", "--default-signal=INT", *BATCH, big, target / "in.csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: (target / ".in.csv.batch/in.csv").stat().st_size > 1_000_000)
    process.send_signal(number)
    assert process.wait(30) == status
    assert process.communicate() == (b"", b"")
    assert (target / "in.csv").read_text() == "old"
    assert listing(target) == (
        ["in.csv"] if number != signal.SIGKILL else [".in.csv.batch", "in.csv"]
    )
    big.write_text(f"{HEADER}\n{GOOD}\n")
    batch(big, target / "in.csv")
    assert (target / "in.csv").read_text() == f"{HEADER},prediction,label\n{GOOD},0,setosa\n"
    assert listing(target) == ["in.csv"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    peaks = []
    for rows in (1_500_000, 6_000_000):
        path, some = tmp_path / f"{rows}.{suffix}", table(500_000)
        writer = (pq.ParquetWriter if suffix == "parquet" else pyarrow.csv.CSVWriter)(
            path, some.schema
        )
        for _ in range(rows // len(some)):
            writer.write_table(some)
        writer.close()
        # A process of a process: what is started counts as having had the memory of who starts it.
        program = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=-3, check=True)"
        )
        program += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        command = [sys.executable, "-c", program, *BATCH, path, tmp_path / f"out.{suffix}"]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < 1.1 * peaks[0]


def test_two_runs_do_not_write_to_one_place(tmp_path):
    place = tmp_path / ".out.csv.batch"
    place.mkdir()
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")
    holder = subprocess.Popen(
        ["flock", "--shared", place, "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE,
        stdout=-1,
    )
    assert holder.stdout.readline() == b"held\n"
    assert (
        refused(tmp_path / "in.csv", tmp_path / "out.csv")
        == f"{tmp_path}: another run is writing there"
    )
    holder.communicate(b"\n")
    batch(tmp_path / "in.csv", tmp_path / "out.csv")


def test_the_verdict_is_on_the_whole_file(tmp_path):
    pq.write_table(table(20_000, noise=0), tmp_path / "in.parquet")
    assert "  drift     quiet\n" in batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    data = table(20_000, noise=0)
    moved = data.set_column(1, NAMES[3], pa.array(data.column(NAMES[3]).to_numpy() + 1))
    pq.write_table(moved, tmp_path / "in.parquet")
    printed = batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert re.search(r"  drift     petal width \(cm\) [0-9.]+, classes [0-9.]+\n", printed)
    pq.write_table(table(99), tmp_path / "in.parquet")
    assert "  drift     too few rows\n" in batch(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_a_regressor_has_neither_labels_nor_classes(tmp_path):
    X, y = IRIS.data[:, :3], IRIS.data[:, 3]
    features = []
    for name, column in zip("abc", X.T, strict=True):
        edges = quantile_edges(column)
        bounds = float(column.min()), float(column.max())
        features.append(
            FeatureInfo(name, None, *bounds, edges.tolist(), bin_shares(column, edges).tolist())
        )
    facts = {
        "name": "width",
        "features": features,
        "classes": [],
        "rows": 150,
        "metrics": {},
        "data": {},
    }
    estimator = LinearRegression().fit(X, y)
    save_model(tmp_path / "model.pkl", estimator, reference=X[:2], **facts)
    (tmp_path / "in.csv").write_text("a,b,c\n5.1,3.5,1.4\n,3.5,1.4\n")
    batch(
        tmp_path / "in.csv",
        tmp_path / "out.csv",
        "--model",
        tmp_path / "model.pkl",
        "--on-error",
        "null",
    )
    head, first, second = written(tmp_path / "out.csv")
    assert head == ["a", "b", "c", "prediction"] and second == ["", "3.5", "1.4", ""]
    assert float(first[3]) == pytest.approx(estimator.predict([[5.1, 3.5, 1.4]])[0])
    assert "no probabilities" in refused(
        tmp_path / "in.csv", tmp_path / "out.csv", "--proba", "--model", tmp_path / "model.pkl"
    )
    (tmp_path / "model.json").unlink()
    assert "has no model card" in refused(
        tmp_path / "in.csv", tmp_path / "out.csv", "--model", tmp_path / "model.pkl"
    )


def test_progress_is_a_bar_on_a_terminal(tmp_path):
    pyarrow.csv.write_csv(table(1000), tmp_path / "in.csv")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    subprocess.run(
        [*BATCH, tmp_path / "in.csv", tmp_path / "out.csv"], stderr=theirs, stdout=-1, check=True
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
        while more := os.read(ours, 1 << 16):
            shown += more
    assert re.search(rb"100%\|.*1\.00k/1\.00k \[.* rows/s\]", shown)
    os.close(ours)


def test_blocks_are_cut_at_ends_of_line_outside_quotes():
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [
            ["".join(rng.choice(list('ab,"\n'), size=rng.integers(0, 6))) for _ in range(2)]
            for _ in range(20)
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        body = text.getvalue().encode()
        end = find_first_line_end(body)
        assert list(csv.reader(io.StringIO(body[:end].decode(), newline=""))) == rows[:1]
        file = io.BytesIO(body[end:])
        blocks = list(iter_blocks(file, int(rng.integers(1, 50))))
        assert b"".join(blocks).rstrip() == body[end:].rstrip()
        found = [
            row
            for block in blocks
            for row in csv.reader(io.StringIO(block[1:].decode(), newline=""))
        ]
        assert found == [row for row in rows[1:] if row != []]
    assert find_last_line_end(b'\na,"b\n') == 0 and find_last_line_end(b"\na\nb") == 2


class Stream:
    """The program between two pipes."""

    def __init__(self, *words):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*BATCH, "-", "-", *words], **pipes)

    def ask(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().decode()

    def end(self):
        out, err = self.process.communicate(timeout=30)
        return out.decode(), err.decode(), self.process.returncode


def test_each_line_is_answered_as_it_comes_with_all_its_members():
    stream = Stream()
    for i in range(3):
        line = member(key=f"k{i}")
        stream.ask(line + "\n")
        assert stream.answer() == f'{line[:-1]},"prediction":0,"label":"setosa"}}\n'
    stream.ask(member()[:20])  # half a line is no line yet
    stream.ask(member()[20:])
    out, err, status = stream.end()  # and the last one needs no end
    assert (out, status) == (f'{member()[:-1]},"prediction":0,"label":"setosa"}}\n', 0)
    assert err.startswith("4 rows in ")


def test_a_csv_stream_is_answered_as_it_comes():
    stream = Stream("--format", "csv")
    stream.ask(f"key,{HEADER}\n")
    assert stream.answer() == f"key,{HEADER},prediction,label\n"
    stream.ask(f"a,{GOOD}\n")
    assert stream.answer() == f"a,{GOOD},0,setosa\n"
    stream.ask(f"b,{GOOD}")
    assert stream.end()[0] == f"b,{GOOD},0,setosa\n"


BAD_LINES = [
    ("nope", "JSON is malformed: invalid character (byte 4)"),
    ("[5.1, 3.5, 1.4, 0.2]", "Expected `object`, got `array`"),
    (member(**{NAMES[1]: None}), "Expected `float`, got `null` - at `$.sepal width (cm)`"),
    (member(**{NAMES[1]: True}), "Expected `float`, got `bool` - at `$.sepal width (cm)`"),
    (member().replace("3.5", "NaN"), "JSON is malformed"),
    (
        member().replace("3.5", "1e39"),
        "Expected `float` <= 3.4028234663852886e+38 - at `$.sepal width (cm)`",
    ),
    (member(label="x"), "Object contains field `label` already"),
    (f'{member()[:-1]},"{NAMES[0]}":5.1}}', "Object contains field `sepal length (cm)` twice"),
]


@pytest.mark.parametrize(("line", "says"), BAD_LINES)
def test_a_bad_line_ends_a_stream_after_what_came_before(line, says):
    stream = Stream()
    stream.ask(f"{member(key=1)}\n\n{line}\n{member(key=2)}\n")
    out, err, status = stream.end()
    assert [msgspec.json.decode(one)["key"] for one in out.splitlines()] == [1] and status == 1
    [said] = err.splitlines()
    assert said.startswith(f"stdin: row 2 (line 3): {says}")


def test_bad_lines_are_answered_with_null_or_skipped_and_told():
    asked = "".join(f"{member(key=i)}\n{line}\n" for i, (line, _) in enumerate(BAD_LINES))
    for on_error in ("null", "skip"):
        stream = Stream("--on-error", on_error)
        stream.ask(asked)
        out, err, status = stream.end()
        answers = [msgspec.json.decode(line) for line in out.splitlines()]
        good = answers if on_error == "skip" else answers[::2]
        assert [(one["key"], one["prediction"]) for one in good] == [
            (i, 0) for i in range(len(BAD_LINES))
        ]
        if on_error == "null":
            assert [(one["prediction"], one["label"]) for one in answers[1::2]] == [
                (None, None)
            ] * len(BAD_LINES)
            assert answers[5][NAMES[0]] == 5.1  # what has members keeps them
        told = [line for line in err.splitlines() if line.startswith("stdin: ")]
        for i, (line, (_, says)) in enumerate(zip(told, BAD_LINES, strict=True)):
            assert line.startswith(f"stdin: row {2 * i + 2} (line {2 * i + 2}): {says}")
        assert f"bad rows  {len(BAD_LINES)}" in err and status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stream_between_two_lines(number):
    stream = Stream()
    stream.ask(member() + "\n")
    stream.answer()
    stream.ask(member()[:10])
    time.sleep(0.2)
    stream.process.send_signal(number)
    stream.process.wait(30)
    out, err, status = stream.end()
    assert (out, status) == ("", 0), err
    assert err.startswith("1 rows in ")


def test_whoever_does_not_read_on_ends_a_stream_without_a_word():
    stream = Stream()
    stream.process.stdout.close()
    stream.ask(member() + "\n")
    assert stream.process.wait(30) == -signal.SIGPIPE
    assert stream.process.stderr.read() == b""
    stream.process.stdin.close()
    stream.process.stderr.close()


def test_the_service_and_the_batch_give_the_same_numbers(call, tmp_path):
    data = table(300)
    rows = [
        list(row) for row in zip(*(data.column(name).to_pylist() for name in NAMES), strict=True)
    ]
    body = msgspec.json.encode({"features": rows, "outputs": ["label", "probability"]})
    answer = call("POST", "/predict", body, {"Content-Type": "application/json"}).json
    pq.write_table(data, tmp_path / "in.parquet")
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--proba")
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert found["prediction"] == answer["prediction"] and found["label"] == answer["label"]
    probabilities = np.column_stack([found[f"probability_{label}"] for label in LABELS])
    np.testing.assert_allclose(probabilities, answer["probability"], rtol=1e-9)
