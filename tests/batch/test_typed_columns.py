"""Columns of every type: strings, booleans, missing values, categories, texts, several outputs."""

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from batches import batch_error, read_csv_rows, run_batch
from fixture_models import PENGUINS, TEXTS, model_file
from serving.batch.features import build_rows
from serving.model.loading import load_model
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model

FRAME = pd.DataFrame(
    {
        "age": [31, 45, 27, 60] * 10,
        "member": [True, False, True, True] * 10,
        "size": pd.Categorical(["S", "M", "L", None] * 10, ["S", "M", "L", "XL"]),
        "zone": pd.Categorical([1, 2, 3, 1] * 10),
        "price": [1.5, np.nan, 2.5, 3.0] * 10,
    }
)


def build_encoder():
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (encoder, ["size", "zone", "member"]), remainder=make_pipeline(OneHotEncoder())
    )
    return make_pipeline(columns, LogisticRegression())


@pytest.fixture(scope="module")
def typed_model(tmp_path_factory):
    """Return the path of a model with an integer, a boolean, two categories, and a gap."""
    path = tmp_path_factory.mktemp("typed") / "model.pkl"
    dataset = Dataset(FRAME, ["yes", "no", "yes", "no"] * 10)
    write_model(path, train_model("typed", dataset, build_encoder))
    return path


def predictions(path):
    return pq.read_table(path).column("prediction").to_pylist()


def test_scores_published_penguins(tmp_path):
    """The penguins as palmerpenguins ships them, with NA for a gap, are scored as pandas reads."""
    path = model_file("penguins")
    printed = run_batch(PENGUINS, tmp_path / "out.csv", "--model", path, "--proba")
    assert printed.startswith("344 rows in ") and "  bad rows  0\n" in printed
    assert "  drift     quiet\n" in printed

    lines = PENGUINS.read_text().splitlines()
    output = (tmp_path / "out.csv").read_text().splitlines()
    assert all(line.startswith(f"{before},") for line, before in zip(output, lines, strict=True))

    model = load_model(path)
    frame = pd.read_csv(PENGUINS)[model.features]
    rows = read_csv_rows(tmp_path / "out.csv")
    column = rows[0].index("prediction")
    assert [row[column] for row in rows[1:]] == model.estimator.predict(frame).tolist()


@pytest.mark.parametrize("writer", ["pandas", "polars", "csv"])
def test_scores_files_of_other_writers(tmp_path, typed_model, writer):
    """What pandas and polars write for each type is read as the model was trained with it."""
    source = tmp_path / f"in.{'csv' if writer == 'csv' else 'parquet'}"
    if writer == "csv":
        FRAME.to_csv(source, index=False)
    elif writer == "pandas":
        FRAME.to_parquet(source)
    else:
        pl.from_pandas(FRAME.astype({"zone": int})).write_parquet(source)
    run_batch(source, tmp_path / "out.parquet", "--model", typed_model)
    expected = load_model(typed_model).estimator.predict(FRAME).tolist()
    assert predictions(tmp_path / "out.parquet") == expected


@pytest.mark.parametrize(
    "string_type", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_strings_of_every_type_are_read(tmp_path, typed_model, string_type):
    """A Parquet column of strings may have any of Arrow's types of strings."""
    table = pa.Table.from_pandas(FRAME.astype({"size": object}), preserve_index=False)
    sizes = pa.array(FRAME["size"].astype(object), pa.string())
    if pa.types.is_dictionary(string_type):
        sizes = sizes.dictionary_encode()
    index = table.column_names.index("size")
    pq.write_table(
        table.set_column(index, "size", sizes.cast(string_type)), tmp_path / "in.parquet"
    )
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--model", typed_model)
    expected = load_model(typed_model).estimator.predict(FRAME).tolist()
    assert predictions(tmp_path / "out.parquet") == expected


def test_rows_have_python_values(typed_model):
    """Rows have integers for whole numbers, and None for what is missing."""
    columns = [
        pa.array([31.0]),
        pa.array([True]),
        pa.array([None], pa.string()),
        pa.array([2.0]),
        pa.array([None], pa.float64()),
    ]
    reasons = {}
    [row] = build_rows(load_model(typed_model).signature, columns, reasons).tolist()
    assert (row, reasons) == ([31, True, None, 2, None], {})
    assert [type(row[0]), type(row[3])] == [int, int]


BAD_ROWS = [
    ("31,maybe,S,1,1.5", "'member': expected true or false, got 'maybe'"),
    ("31.5,true,S,1,1.5", "'age': expected an integer within 2^53, got 31.5"),
    (",true,S,1,1.5", "'age': expected an integer, got null"),
    ("31,,S,1,1.5", "'member': expected true or false, got null"),
    ("x,true,S,1,1.5", "'age': expected an integer, got 'x'"),
    ("31,true,S,one,1.5", "'zone': expected an integer, got 'one'"),
    ("31,true,S,1,inf", "'price': expected a finite number, got inf"),
    ("1e17,true,S,1,1.5", "'age': expected an integer within 2^53, got 1e+17"),
]


def test_bad_values_of_each_type_are_listed(tmp_path, typed_model):
    """A value of a wrong type is a bad row, with what was expected."""
    good = "31, TRUE ,S,1.0,"
    lines = [",".join(FRAME.columns)]
    for line, _ in BAD_ROWS:
        lines += [good, line]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    words = [tmp_path / "in.csv", tmp_path / "out.csv", "--model", typed_model]
    run_batch(*words, "--on-error", "null")
    errors = (tmp_path / "out.csv.errors.ndjson").read_bytes().splitlines()
    assert [msgspec.json.decode(error) for error in errors] == [
        {"row": 2 * i + 2, "line": 2 * i + 3, "reason": reason}
        for i, (_, reason) in enumerate(BAD_ROWS)
    ]
    answers = [row[-1] for row in read_csv_rows(tmp_path / "out.csv")[1:]]
    assert answers[1::2] == [""] * len(BAD_ROWS) and "" not in answers[::2]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("member", [1.0], "column 'member': expected booleans, got double"),
        ("size", [1], "column 'size': expected strings, got int64"),
        ("age", ["31"], "column 'age': expected numbers, got "),
        ("zone", ["1"], "column 'zone': expected numbers, got "),
    ],
)
def test_parquet_column_of_wrong_type_is_one_line(tmp_path, typed_model, column, values, message):
    """A Parquet column of another type is an error before a row is scored."""
    FRAME.head(1).assign(**{column: values}).to_parquet(tmp_path / "in.parquet")
    error = batch_error(tmp_path / "in.parquet", tmp_path / "out.csv", "--model", typed_model)
    assert error.startswith(f"{tmp_path / 'in.parquet'}: {message}")


def test_stream_takes_types_of_requests(tmp_path, typed_model):
    """A line of JSON has the types of a request; a missing value may be null or left out."""
    record = {"age": 31, "member": True, "size": None, "zone": 1}
    lines = [record, {"features": record}, {"features": [31, True, None, 1, None]}]
    body = "\n".join(msgspec.json.encode(line).decode() for line in lines)
    out = run_batch("-", "-", "--model", typed_model, input=body)
    assert len({msgspec.json.decode(line)["prediction"] for line in out.splitlines()}) == 1
    wrong = msgspec.json.encode(record | {"member": 1}).decode()
    error = batch_error("-", "-", "--model", typed_model, input=wrong)
    assert error == "stdin: row 1 (line 1): Expected `bool`, got `int` - at `$.member`"


def test_scores_texts(tmp_path):
    """A column of texts is scored, quotation marks and all."""
    path = model_file("languages")
    model = load_model(path)
    texts = [f'{text}, "{text}"' for text in TEXTS["de"] + TEXTS["en"]]
    pd.DataFrame({model.features[0]: texts}).to_csv(tmp_path / "in.csv", index=False)
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--model", path)
    _, *rows = read_csv_rows(tmp_path / "out.csv")
    assert [row[0] for row in rows] == texts
    assert [row[1] for row in rows] == model.estimator.predict(texts).tolist()


def test_several_outputs_are_several_columns(tmp_path):
    """A model with several outputs has a column for each, and a list in a line of JSON."""
    path = model_file("linnerud")
    model = load_model(path)
    row = model.card.reference[0].features
    expected = model.estimator.predict([row])[0].tolist()
    pd.DataFrame([row], columns=model.features).to_csv(tmp_path / "in.csv", index=False)
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--model", path)
    head, values = read_csv_rows(tmp_path / "out.csv")
    assert head == [*model.features, "prediction_0", "prediction_1", "prediction_2"]
    assert [float(value) for value in values[-3:]] == pytest.approx(expected)

    line = msgspec.json.encode(dict(zip(model.features, row, strict=True))).decode()
    out = run_batch("-", "-", "--model", path, input=line)
    assert msgspec.json.decode(out)["prediction"] == pytest.approx(expected)


def test_labels_of_several_outputs_are_quoted(tmp_path):
    """Predictions that are texts are fields of CSV, in quotation marks where they need them."""
    rows = np.arange(40.0).reshape(-1, 1)
    labels = np.array([["x, 1", 'say "y"'], ["z", "plain"]] * 20, dtype=object)
    path = tmp_path / "model.pkl"
    dataset = Dataset(rows, labels, feature_names=["n"])
    write_model(path, train_model("labels", dataset, lambda: KNeighborsClassifier(1)))
    (tmp_path / "in.csv").write_text("n\n0\n1\nx\n")
    words = [tmp_path / "in.csv", tmp_path / "out.csv", "--model", path, "--on-error", "null"]
    run_batch(*words)
    assert read_csv_rows(tmp_path / "out.csv")[1:] == [
        ["0", "x, 1", 'say "y"'],
        ["1", "z", "plain"],
        ["x", "", ""],
    ]


def test_regressor_reports_drift_of_predictions(tmp_path):
    """The report of a regressor is about its predictions as well."""
    path = model_file("diabetes")
    model = load_model(path)
    rows = np.tile(model.card.reference[0].features, (200, 1))
    pd.DataFrame(rows, columns=model.features).to_csv(tmp_path / "in.csv", index=False)
    printed = run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--model", path)
    assert "  classes" not in printed and ", predictions " in printed
