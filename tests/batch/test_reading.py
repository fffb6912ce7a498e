"""Files as other people and programs wrote them."""

import bz2
import gzip
import importlib.resources
import io
import lzma
import subprocess
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batches import (
    BATCH,
    GOOD_LINE,
    HEADER,
    IRIS,
    MODEL,
    batch_error,
    list_names,
    read_csv_rows,
    run_batch,
)
from helpers import NAMES

# The first lines of iris.csv in packages: vega-datasets, seaborn's data, R's data sets.
PUBLISHED_HEADERS = {
    "vega": "sepalLength,sepalWidth,petalLength,petalWidth,species",
    "seaborn": "sepal_length,sepal_width,petal_length,petal_width,species",
    "R": '"","Sepal.Length","Sepal.Width","Petal.Length","Petal.Width","Species"',
}


def published_lines(name):
    """Return the lines of a published iris.csv, which differ from scikit-learn's in the header."""
    lines = [PUBLISHED_HEADERS[name]]
    for i, row in enumerate(IRIS.data.tolist(), 1):
        values = ",".join(map(str, row))
        if name == "R":
            lines.append(f'"{i}",{values},"setosa"')
        else:
            lines.append(f"{values},setosa")
    return lines


@pytest.mark.parametrize("name", PUBLISHED_HEADERS)
def test_scores_published_iris(tmp_path, name):
    """Names that differ in case, punctuation or unit are matched, and said."""
    lines = published_lines(name)
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")
    output = (tmp_path / "out.csv").read_text().splitlines()
    assert output[0] == f"{lines[0]},prediction,label"
    expected = MODEL.estimator.predict(IRIS.data)
    for line, before, value in zip(output[1:], lines[1:], expected, strict=True):
        assert line.startswith(f"{before},{value},")


def test_scores_scikit_learns_own_file(tmp_path):
    """iris.csv of scikit-learn has counts in place of names: its columns are those of the card."""
    source = importlib.resources.files("sklearn.datasets.data") / "iris.csv"
    lines = source.read_text().splitlines()
    (tmp_path / "in.csv").write_text("\n".join(lines[1:]))
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--no-header")
    rows = read_csv_rows(tmp_path / "out.csv")
    assert [",".join(row[:5]) for row in rows] == lines[1:]
    assert [int(row[5]) for row in rows] == MODEL.estimator.predict(IRIS.data).tolist()

    (tmp_path / "whole.csv").write_text("\n".join(lines))
    error = batch_error(tmp_path / "whole.csv", tmp_path / "out.csv", "--no-header")
    assert "row 1 (line 1): 'petal length (cm)': expected a number, got 'setosa'" in error
    error = batch_error(tmp_path / "whole.csv", tmp_path / "out.csv")
    assert "found '150', '4', 'setosa', 'versicolor', 'virginica'" in error


def test_scores_file_of_excel(tmp_path):
    """A file as a German Excel saves it: semicolons, decimal commas, CRLF and a mark."""
    lines = [f"{HEADER};note".replace(",", ";")]
    lines += ["5,1;3,5;1,4;0,2;a", '"6,3";3,3;6;2,5;"b;c"']
    body = "\r\n".join(["\ufeff" + lines[0], *lines[1:], ""]).encode()
    (tmp_path / "in.csv").write_bytes(body)
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--proba")
    output = (tmp_path / "out.csv").read_bytes().decode().split("\r\n")
    assert output[0].startswith(f"\ufeff{lines[0]};prediction;label;probability_setosa")
    assert output[1].startswith(f"{lines[1]};0;setosa;0,98")
    assert output[2].startswith(f"{lines[2]};2;virginica;") and output[3:] == [""]

    run_batch(tmp_path / "in.csv", tmp_path / "kept.csv", "--keep", "note", NAMES[0])
    assert (tmp_path / "kept.csv").read_bytes().decode() == (
        f'\ufeffnote;{NAMES[0]};prediction;label\r\na;5,1;0;setosa\r\n"b;c";"6,3";2;virginica\r\n'
    )
    (tmp_path / "bad.csv").write_bytes(body.replace(b"1,4", b"1.x"))
    told = ["--delimiter", ";", "--decimal", ","]
    error = batch_error(tmp_path / "bad.csv", tmp_path / "out.csv", *told)
    assert error.endswith("row 1 (line 2): 'petal length (cm)': expected a number, got '1.x'")


def test_file_without_header_shows_its_format(tmp_path):
    """The delimiter without a header is the one that gives a field for each feature."""
    lines = ["5,1;3,5;1,4;0,2", "6,3;3,3;6;2,5"]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    words = [tmp_path / "in.csv", tmp_path / "out.csv", "--no-header"]
    assert stderr_of(*words) == [f"{tmp_path / 'in.csv'}: delimiter ';', decimal comma"]
    output = (tmp_path / "out.csv").read_text().splitlines()
    assert output == [f"{lines[0]};0;setosa", f"{lines[1]};2;virginica"]


def test_guesses_are_said(tmp_path):
    """What was guessed is a line on stderr; what was told is not."""
    text = HEADER.replace(",", "|").replace(" (cm)", "") + "\n" + GOOD_LINE.replace(",", "|")
    (tmp_path / "in.csv").write_text(text)
    words = [tmp_path / "in.csv", tmp_path / "out.csv"]
    assert stderr_of(*words) == [
        f"{tmp_path / 'in.csv'}: delimiter '|', "
        + ", ".join(f"column {name[:-5]!r} for {name!r}" for name in NAMES)
    ]
    assert "delimiter" not in stderr_of(*words, "--delimiter", "|")[0]
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    assert stderr_of(*words) == []


def stderr_of(*words):
    """Return the lines that a successful run writes to stderr."""
    result = subprocess.run([*BATCH, *words], capture_output=True, text=True, check=True)
    return result.stderr.splitlines()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1", "cp1252", "shift_jis"])
def test_encoding_stays(tmp_path, encoding):
    """The output has the encoding of the input; a mark shows UTF-16."""
    note = "\u30c6" if encoding == "shift_jis" else "Größe"
    body = f"{HEADER},note\r\n{GOOD_LINE},{note}\r\n"
    mark = "\ufeff" * int(encoding == "utf-16-be")
    (tmp_path / "in.csv").write_bytes((mark + body).encode(encoding))
    words = [] if "16" in encoding else ["--encoding", encoding]
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", *words)
    output = (tmp_path / "out.csv").read_bytes().decode(encoding)
    added = [",prediction,label\r\n", ",0,setosa\r\n"]
    lines = body.split("\r\n")
    assert output == mark + lines[0] + added[0] + lines[1] + added[1]
    run_batch(tmp_path / "in.csv", tmp_path / "out.parquet", *words)
    assert pq.read_table(tmp_path / "out.parquet").column("note").to_pylist() == [note]


def test_carriage_returns_alone_stay(tmp_path):
    """Lines that end with CR alone are read, and stay so."""
    (tmp_path / "in.csv").write_bytes(f"{HEADER}\r{GOOD_LINE}\rx,1,1,1\r".encode())
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--on-error", "null")
    expected = f"{HEADER},prediction,label\r{GOOD_LINE},0,setosa\rx,1,1,1,,\r"
    assert (tmp_path / "out.csv").read_bytes() == expected.encode()
    assert b'"row":2,"line":3' in (tmp_path / "out.csv.errors.ndjson").read_bytes()


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_compressions(tmp_path, suffix):
    """A compressed file is read; each compression apart from .zip is written."""
    body = f"{HEADER}\n{GOOD_LINE}\n".encode()
    packed = {
        "": lambda: body,
        ".gz": lambda: gzip.compress(body),
        ".bz2": lambda: bz2.compress(body),
        ".xz": lambda: lzma.compress(body),
        ".zst": lambda: pa.Codec("zstd").compress(body, asbytes=True),
        ".zip": lambda: pack_zip({"iris.csv": body}),
    }
    source = tmp_path / f"IN.CSV{suffix}"
    source.write_bytes(packed[suffix]())
    run_batch(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().endswith(b"0.2,0,setosa\n")
    if suffix == ".zip":
        assert "expected a name" in batch_error(source, tmp_path / "out.csv.zip")
        source.write_bytes(pack_zip({"a.csv": body, "b.csv": body}))
        error = batch_error(source, tmp_path / "out.csv")
        assert error == f"{source}: expected one file in the archive, got 2"
        return
    run_batch(source, tmp_path / f"again.csv{suffix}")
    again = tmp_path / f"again.csv{suffix}"
    run_batch(again, tmp_path / "back.csv", "--keep", *NAMES)
    assert (tmp_path / "back.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()


def pack_zip(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.getvalue()


def test_numbers_and_columns_as_people_write_them(tmp_path):
    """Numbers without a digit before or after the point, columns without a name or twice."""
    header = f"{HEADER},note,note,,"
    lines = [".5,5.,+5.1,05.1,a,b,,", ' 5.1 ,"3.5",1e0,-0.2,"c, d",,,']
    (tmp_path / "in.csv").write_text("\n".join([header, *lines]))
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")
    output = (tmp_path / "out.csv").read_text().splitlines()
    assert output[0] == f"{header},prediction,label"
    rows = np.array([[0.5, 5, 5.1, 5.1], [5.1, 3.5, 1, -0.2]])
    for line, before, value in zip(output[1:], lines, MODEL.predict(rows), strict=True):
        assert line.startswith(f"{before},{value},")
    run_batch(tmp_path / "in.csv", tmp_path / "out.parquet")
    names = [*NAMES, "note", "note_6", "column_7", "column_8", "prediction", "label"]
    assert pq.read_schema(tmp_path / "out.parquet").names == names


def test_missing_columns_are_named_at_once(tmp_path):
    """All missing names are in one line, with the nearest of those that are there."""
    names = ["sepal lengths (cm)", *NAMES[1:3]]
    (tmp_path / "in.csv").write_text(",".join(names) + "\n1,1,1\n")
    error = batch_error(tmp_path / "in.csv", tmp_path / "out.csv")
    found = ", ".join(map(repr, names))
    assert error == (
        f"{tmp_path / 'in.csv'}: missing columns 'sepal length (cm)' (nearest: "
        f"'sepal lengths (cm)'), 'petal width (cm)' (nearest: 'sepal width (cm)'); found {found}"
    )
    words = ["--rename", "sepal lengths (cm)=sepal length (cm)", "--rename", "w=petal width (cm)"]
    assert "--rename: missing column 'w'" in batch_error(
        tmp_path / "in.csv", tmp_path / "out.csv", *words
    )
    (tmp_path / "in.csv").write_text(",".join([*names, "w"]) + f"\n{GOOD_LINE}\n")
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", *words)
    assert read_csv_rows(tmp_path / "out.csv")[1][-2:] == ["0", "setosa"]


@pytest.mark.parametrize(
    "header",
    [
        "sepal length (mm),sepal width (cm),petal length (cm),petal width (cm)",
        "sepal_length,sepal.length,sepal width (cm),petal length (cm),petal width (cm)",
    ],
)
def test_ambiguous_names_are_not_matched(tmp_path, header):
    """Another unit is another quantity, and of two columns that fit neither is taken."""
    (tmp_path / "in.csv").write_text(header + "\n")
    error = batch_error(tmp_path / "in.csv", tmp_path / "out.csv")
    assert ": missing column 'sepal length (cm)' (nearest: " in error


def test_quotes_stay_with_keep(tmp_path):
    """The columns that --keep selects stay as they were written."""
    (tmp_path / "in.csv").write_text(f'"id",{HEADER},note\n"007",{GOOD_LINE},"a ""b"", \nc"\n')
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--keep", "note", "id")
    expected = 'note,"id",prediction,label\n"a ""b"", \nc","007",0,setosa\n'
    assert (tmp_path / "out.csv").read_text() == expected


def test_words_after_keep_may_be_paths(tmp_path):
    """`--keep a b IN OUT` is understood, and so are several inputs before OUTPUT."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"id,{HEADER}\n7,{GOOD_LINE}\n")
    run_batch("--keep", "id", tmp_path / "a.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "id,prediction,label\n7,0,setosa\n"
    printed = run_batch(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "out")
    assert printed.startswith("2 rows in ") and f"  output    {tmp_path / 'out'}\n" in printed
    assert list_names(tmp_path / "out") == ["a.csv", "b.csv"]
    assert "expected INPUT and OUTPUT" in run_batch("--keep", "id", status=2)
