"""SageMaker and MLflow: invocations in JSON and CSV, health, version, Batch Transform limits."""

import pytest

from app import create_app
from endpoints import (
    CLASSES,
    CSV,
    MLFLOW,
    NAMED_ROWS,
    ROWS,
    ROWS_BY_COLUMN,
    SAGEMAKER,
    SHUFFLED_SPLIT,
    assert_error,
)
from helpers import JSON, NAMES, SETOSA, VERSION, VIRGINICA, in_process

CSV_HEADER = ",".join(SHUFFLED_SPLIT["columns"])
CSV_LINES = [",".join(map(str, row)) for row in SHUFFLED_SPLIT["data"]]
CSV_WITH_HEADER = CSV_HEADER + "\r\n" + "\n".join(CSV_LINES)


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health(call, path):
    """SageMaker and MLflow read the status of an almost empty response."""
    response = call("GET", path)
    assert (response.status, response.body) == (200, b"\n")


def test_model_version(call):
    """MLflow reads the version as plain text."""
    assert call("GET", "/version").body == VERSION.encode()


@pytest.mark.parametrize(
    "payload",
    [
        {"dataframe_split": SHUFFLED_SPLIT, "params": {"x": 1}},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}},  # pandas without names
        {"dataframe_records": NAMED_ROWS},
        {"instances": NAMED_ROWS},
        {"inputs": ROWS_BY_COLUMN},
    ],
    ids=["dataframe_split", "numbered columns", "dataframe_records", "instances", "inputs"],
)
def test_rows_by_feature_name(call, payload):
    """Each of MLflow's formats may name the features, in any order."""
    assert MLFLOW.read_predictions(MLFLOW.post(call, payload).json) == CLASSES


def test_bare_array_of_rows(call):
    """A bare array of rows receives a bare array of predictions."""
    assert SAGEMAKER.post(call, ROWS).json == CLASSES


def test_bare_row(call):
    """A bare row is one row."""
    assert SAGEMAKER.post(call, VIRGINICA).json == [2]


@pytest.mark.parametrize(
    ("payload", "pattern"),
    [
        ({"x": ROWS}, "Expected exactly one of dataframe_split, .*, got none"),
        (
            {"dataframe_split": SHUFFLED_SPLIT | {"columns": NAMES[:3]}},
            "Expected the columns sepal length .* - at `",
        ),
        (
            {"dataframe_split": SHUFFLED_SPLIT | {"columns": NAMES[:3] * 2}},
            "Expected the columns",
        ),
        ({"dataframe_split": {"columns": NAMES}}, "missing required field `data`"),
        (
            {"inputs": ROWS_BY_COLUMN | {NAMES[2]: [1]}},
            "Expected 2 numbers, got 1 - at `.*petal length",
        ),
        ({"inputs": {name: [] for name in NAMES}}, "Expected at least one row"),
        ({"dataframe_records": [NAMED_ROWS[0], {}]}, "missing required field"),
        ([SETOSA, 1.0], r"Expected rows of one kind, or numbers alone - at `\$\[1\]`"),
    ],
    ids=[
        "unknown member",
        "missing column",
        "repeated columns",
        "no data",
        "columns of different length",
        "empty columns",
        "missing feature",
        "rows and numbers",
    ],
)
def test_conflicting_members_return_400(call, payload, pattern):
    """The members, columns and rows of a request must agree."""
    assert_error(MLFLOW.post(call, payload), MLFLOW, 400, pattern)


@pytest.mark.parametrize(
    ("text", "accept", "mimetype", "expected"),
    [
        ("5.1,3.5,1.4,0.2", "", "text/csv", "0\n"),
        ("5.1, 3.5, 1.4, 2e-1\n6.3,3.3,6,2.5\n", "*/*", "text/csv", "0\n2\n"),
        (
            "\ufeff5.1,3.5,1.4,0.2\r\n6.3,3.3,6,2.5\r\n",
            "text/csv, application/json",
            "text/csv",
            "0\n2\n",
        ),
        ("5.1,3.5,1.4,0.2\n6.3,3.3,6,2.5", "application/json", "application/json", "[0,2]\n"),
        (CSV_WITH_HEADER, "", "text/csv", "0\n2\n"),
        (
            CSV_WITH_HEADER,
            "application/json, text/csv",
            "application/json",
            '{"predictions":[0,2]}\n',
        ),
        (
            CSV_WITH_HEADER,
            "text/csv;q=0.5, application/json",
            "application/json",
            '{"predictions":[0,2]}\n',
        ),
    ],
)
def test_csv_response_unless_json_preferred(call, text, accept, mimetype, expected):
    """CSV is answered with CSV unless Accept prefers JSON."""
    headers = dict(CSV)
    if accept:
        headers["Accept"] = accept
    response = call("POST", "/invocations", text.encode(), headers)
    content_type = response.headers["Content-Type"].partition(";")[0]
    assert (response.status, content_type) == (200, mimetype)
    assert response.body.decode() == expected
    assert response.headers["X-Model-Version"] == VERSION


def test_json_request_csv_response(call):
    """JSON is answered with CSV if Accept prefers it."""
    response = SAGEMAKER.post(call, ROWS, JSON | {"Accept": "text/csv, application/json"})
    assert response.headers["Content-Type"] == "text/csv"
    assert response.body == b"0\n2\n"

    response = SAGEMAKER.post(call, ROWS, JSON | {"Accept": "application/json, text/csv"})
    assert response.json == CLASSES


INVALID_CSV = {
    "empty": (b"", "Expected at least one row"),
    "blank lines": (b"\n\n", "Expected at least one row"),
    "header only": (CSV_HEADER.encode(), "Expected at least one row"),
    "one short row": (b"1,2,3", r"Expected 4 numbers, got 3 - at `\$\[0\]`"),
    "second row short": (b"1,2,3,4\n1,2,3", r"Expected 4 numbers, got 3 - at `\$\[1\]`"),
    "blank line between": (b"1,2,3,4\n\n1,2,3,4", r"Expected 4 numbers, got 0 - at `\$\[1\]`"),
    "empty field": (b"1,2,3,4\n1,2,,4", r"Expected `float`, got `str` - at `\$\[1\]\[2\]`"),
    "boolean": (b"1,2,3,4\n1,2,true,4", r"Expected `float`, got `str`"),
    "NaN": (b"1,2,3,4\n1,2,nan,4", r"Expected `float` >= "),
    "Infinity": (b"1,2,3,4\n1,2,inf,4", r"Expected `float` <= "),
    "beyond float64": (b"1,2,3,4\n1,2,1e999,4", r"Expected `float` <= "),
    "underscore": (b"1,2,3,4\n1,2,1_0,4", r"Expected `float`, got `str`"),
    "NaN in first line": (b"nan,2,3,4", r"Expected `float` >= .* - at `\$\[0\]\[0\]`"),
    "word in first line": (b"1,2,x,4", r"Expected `float`, got `str` - at `\$\[0\]\[2\]`"),
    "unknown names": (b"a,b,c,d\n1,2,3,4", r"Expected the columns .* - at `line 1`"),
    "open quotation mark": (b'1,2,3,"4', "CSV is malformed"),
    "no UTF-8": (b"1,2,3,4\xff", "The body is not UTF-8"),
    "very long line": (b"1," * 200_000, "Expected"),
    "very long field": (b'"' + b"x" * 200_000 + b'"', "CSV is malformed|Expected the columns"),
}


@pytest.mark.parametrize(
    "text",
    [
        "5.1,3.5,1.4,.2",
        "5.1,3.5,1.4,0.2 \r\n",
        "+5.1,3.5,1.4,0.2",
        "05.1, 3.50,1.4,2E-1",
        "5.1,3.5,1.4,2.e-1",
        "0,1,2,3\n5.1,3.5,1.4,0.2",
        "\ufeff5.1,3.5,1.4,0.2",
    ],
)
def test_numbers_of_other_programs(call, text):
    """Numbers that JSON would not allow, and the header that pandas writes without names."""
    headers = CSV | {"Accept": "application/json"}
    response = call("POST", "/invocations", text.encode(), headers)
    assert response.status == 200, response.body
    assert response.json in ([0], {"predictions": [0]})


@pytest.mark.parametrize("text", ["1,2,3,0x1", "1,2,3,\u0663", "1,2,3,1e", "1,2,3,.", "1,2,3,1,5"])
def test_no_number_is_invented(call, text):
    """What no program writes for a number is refused."""
    assert call("POST", "/invocations", text.encode(), CSV).status == 400


@pytest.mark.parametrize(("text", "pattern"), INVALID_CSV.values(), ids=INVALID_CSV)
def test_invalid_csv_returns_400(call, text, pattern):
    """A CSV body of anything but rows of numbers is refused, with the line."""
    assert_error(call("POST", "/invocations", text, CSV), MLFLOW, 400, pattern)


def test_too_many_csv_rows_return_413(call):
    """MAX_ROWS holds for CSV as well."""
    response = call("POST", "/invocations", b"1,2,3,4\n" * 10_001, CSV)
    assert_error(response, MLFLOW, 413, "at most 10000 rows, got 10001")


def test_batch_transform_limits(call):
    """A payload of one megabyte may exceed MAX_ROWS, so Batch Transform sends single records."""
    limits = call("GET", "/execution-parameters").json
    assert limits.pop("MaxConcurrentTransforms") >= 1
    assert limits == {"BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}


def test_batch_transform_with_more_rows():
    """If MAX_ROWS admits any payload, Batch Transform may fill it."""
    app = create_app(MAX_ROWS=1_000_000, MAX_BODY_BYTES=6 * 2**20)
    assert in_process(app, "GET", "/execution-parameters").json == {
        "MaxConcurrentTransforms": 1,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }
    body = b"1,1,1,1\n" * (6 * 2**20 // 8)
    assert in_process(app, "POST", "/invocations", body, CSV).status == 200
