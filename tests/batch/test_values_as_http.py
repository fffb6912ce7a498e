"""Fields of CSV: the batch reads each as the service reads it in a request."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app import create_app
from batches import batch_error, read_csv_rows, run_batch
from helpers import in_process
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model

NUMBERS = ["5.1", " 5.1 ", "+5.1", ".5", "5.", "05.1", "-0", "1e2", "1E+2", "3", "3.0", "3.5"]
BOUNDS = ["1e39", "1e400", "-inf", "Infinity", "9007199254740993", "1e17"]
NO_NUMBERS = ["0x1", "1_0", "1,5", "1 000", "1d5", "e5", "5e", "--1", "+-1", ".", "-", "\u0665"]
SPACES = ["\xa05.1", "\t3", "3\t", "  "]
MISSING = ["", "NA", "na", " N/A ", "#n/a", "<NA>", "null", "NULL", "nUlL", "None", "nONE"]
NAN = ["nan", "NaN", "-nan", " NAN"]
BOOLEANS = ["true", "TRUE", " True ", "tRuE", "1", "0", "1.0", "false", "yes", "t"]
TEXTS = ["S", "  S", "s", "M ", "two words", 'a "quoted" one', "Größe", "-"]
FIELDS = [*NUMBERS, *BOUNDS, *NO_NUMBERS, *SPACES, *MISSING, *NAN, *BOOLEANS, *TEXTS]

FRAME = pd.DataFrame(
    {
        "price": [1.5, np.nan, 2.5, 3.0] * 10,
        "width": [0.5, 1.5, 2.5, 4.0] * 10,
        "age": [31, 45, 27, 60] * 10,
        "member": [True, False, True, True] * 10,
        "vip": pd.Series([True, False, None, True] * 10, dtype="boolean"),
        "size": pd.Categorical(["S", "M", "L", None] * 10, ["S", "M", "L", "XL"]),
        "grade": pd.Categorical(["None", "M", "NA", None] * 10),
        "zone": pd.Categorical([1, 2, 3, 1] * 10),
    }
)
ROW = ["1.5", "0.5", "31", "true", "true", "S", "M", "1"]


def build_estimator():
    """Return a regressor whose prediction differs for each value of each feature."""
    numbers = make_pipeline(SimpleImputer(strategy="constant", fill_value=77))
    names = ["price", "width", "age"]
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((numbers, names), remainder=encoder)
    return make_pipeline(columns, LinearRegression())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("values") / "model.pkl"
    target = np.random.default_rng(0).normal(size=len(FRAME))
    write_model(path, train_model("values", Dataset(FRAME, target), build_estimator))
    return path


def csv_text(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[*FRAME.columns, "id"], *rows])
    return text.getvalue()


@pytest.mark.parametrize("index", range(len(ROW)), ids=FRAME.columns)
def test_fields_are_read_as_in_a_request(tmp_path, model, index):
    """A field has the same value, or is bad, in a file and in a request of CSV."""
    rows = []
    for number, field in enumerate(FIELDS):
        row = [*ROW, number]
        row[index] = field
        rows.append(row)

    service = create_app(MODEL_PATH=str(model))
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    expected = []
    for row in rows:
        response = in_process(service, "POST", "/invocations", csv_text([row]).encode(), headers)
        assert response.status in (200, 400), response.body
        prediction = None
        if response.status == 200:
            prediction = float(response.body)
        expected.append(prediction)

    # In one block, which has bad rows, and each by itself, as the parser reads it at once.
    assert predict(tmp_path, model, rows) == expected
    good = [row for row, prediction in zip(rows, expected, strict=True) if prediction is not None]
    assert predict(tmp_path, model, good) == [value for value in expected if value is not None]


def test_words_for_missing_values_may_be_categories(tmp_path, model):
    """None and NA are missing values, unless they are categories of the feature."""
    index = list(FRAME.columns).index("grade")
    rows = [[*ROW[:index], grade, ROW[-1], 0] for grade in ("None", "NA", "n/a", "")]
    none, na, *missing = predict(tmp_path, model, rows)
    assert none != na and missing[0] == missing[1] and missing[0] not in (none, na)


def predict(directory, model, rows):
    (directory / "in.csv").write_text(csv_text(rows), newline="")
    words = [directory / "in.csv", directory / "out.csv", "--model", model, "--on-error", "null"]
    run_batch(*words, "--keep", "id")
    values = [prediction for _, prediction in read_csv_rows(directory / "out.csv")[1:]]
    return [float(value) if value else None for value in values]


def test_point_is_no_decimal_comma(tmp_path, model):
    """In a file with decimal commas 1.500 may be a thousand and a half: it is a bad row."""
    lines = [";".join(FRAME.columns), "1,5;0,5;31;true;true;S;M;1", "1.500;0,5;31;true;true;S;M;1"]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    words = [tmp_path / "in.csv", tmp_path / "out.csv", "--model", model, "--decimal", ","]
    message = "row 2 (line 3): 'price': expected a number, got '1.500'"
    assert batch_error(*words, "--delimiter", ";").endswith(message)
