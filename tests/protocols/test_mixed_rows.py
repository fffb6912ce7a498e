"""A model of strings, numbers and missing values gets the same rows on every way in.

The expected predictions are those of the estimator for the DataFrame that pandas read.
"""

import json
import re
import struct

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app import create_app
from endpoints import CSV
from fixture_models import MEASUREMENTS, load_penguins, model_file
from helpers import JSON, in_process
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model

FEATURES = [*MEASUREMENTS, "island", "sex"]
FRAME = load_penguins()[FEATURES]
ROWS = json.loads(FRAME.to_json(orient="values"))
RECORDS = [dict(zip(FEATURES, row, strict=True)) for row in ROWS]
NAMED_VALUES = [
    {name: value for name, value in record.items() if value is not None} for record in RECORDS
]
REVERSED = FEATURES[::-1]
REVERSED_ROWS = [row[::-1] for row in ROWS]
COLUMNS = {name: [row[i] for row in ROWS] for i, name in enumerate(FEATURES)}

EXPECTED = joblib.load(model_file("penguins")).predict(FRAME).tolist()

JSON_REQUESTS = {
    "own API, arrays": ("/predict", {"features": ROWS}),
    "own API, objects": ("/predict", {"features": RECORDS}),
    "own API, left-out names": ("/predict", {"features": NAMED_VALUES}),
    "KServe V1, arrays": ("/v1/models/penguins:predict", {"instances": ROWS}),
    "KServe V1, objects": ("/v1/models/penguins:predict", {"instances": RECORDS}),
    "TensorFlow, columns": ("/v1/models/penguins:predict", {"inputs": COLUMNS}),
    "Vertex AI": ("/v1/endpoints/1/deployedModels/2:predict", {"instances": NAMED_VALUES}),
    "SageMaker": ("/invocations", ROWS),
    "MLflow, split": (
        "/invocations",
        {"dataframe_split": {"columns": REVERSED, "data": REVERSED_ROWS}},
    ),
    "MLflow, records": ("/invocations", {"dataframe_records": RECORDS}),
    "MLflow, columns": ("/invocations", {"inputs": COLUMNS}),
    "Azure ML": ("/score", {"data": RECORDS}),
    "Azure ML, split": ("/score", {"input_data": {"columns": FEATURES, "data": ROWS}}),
}

# The row without a measurement, as pandas writes it.
NO_MEASUREMENTS = ",,,,Torgersen,"

CSV_REQUESTS = {
    "header": FRAME.to_csv(index=False),
    "shuffled header": FRAME[REVERSED].to_csv(index=False),
    "no header": FRAME.to_csv(index=False, header=False),
    "words of numpy, R and JSON for a missing number": FRAME.to_csv(index=False).replace(
        NO_MEASUREMENTS, "nan,NA, null,None,Torgersen,"
    ),
    "further columns": FRAME.to_csv(index_label="id"),
}


def build_strict_estimator():
    columns = ColumnTransformer([("island", OneHotEncoder(handle_unknown="error"), ["island"])])
    return make_pipeline(columns, LogisticRegression())


APP = create_app(MODEL_PATH=str(model_file("penguins")))


def post(path, payload, headers=JSON):
    body = payload
    if not isinstance(payload, bytes):
        body = msgspec.json.encode(payload)
    return in_process(APP, "POST", path, body, headers)


def predictions_of(response):
    assert response.status == 200, response.body
    payload = response.json
    if isinstance(payload, list):
        return payload
    if "outputs" in payload:
        return payload["outputs"][0]["data"]
    return payload.get("prediction", payload.get("predictions"))


@pytest.mark.parametrize(("path", "payload"), JSON_REQUESTS.values(), ids=JSON_REQUESTS)
def test_json_rows_match_estimator(path, payload):
    """Arrays, objects, columns and left-out names are the rows that pandas read."""
    assert predictions_of(post(path, payload)) == EXPECTED


def test_one_row_has_no_measurements():
    """The data have the row whose empty fields are replaced above."""
    assert CSV_REQUESTS["header"].count(f"\n{NO_MEASUREMENTS}") == 1


@pytest.mark.parametrize("text", CSV_REQUESTS.values(), ids=CSV_REQUESTS)
def test_csv_rows_match_estimator(text):
    """CSV as pandas writes it has empty fields for missing values."""
    response = post("/invocations", text.encode(), CSV | {"Accept": "application/json"})
    assert predictions_of(response) == EXPECTED


def json_tensor(name, values):
    datatype = "BYTES" if name in ("island", "sex") else "FP64"
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def test_json_tensors_match_estimator():
    """A tensor for each feature has null for a missing value."""
    tensors = [json_tensor(name, values) for name, values in COLUMNS.items()]
    request = {"inputs": tensors, "parameters": {"content_type": "pd"}}
    assert predictions_of(post("/v2/models/penguins/infer", request)) == EXPECTED


def test_binary_tensors_match_estimator():
    """Binary data has NaN for a missing number, and an empty string for a missing text."""
    tensors = []
    parts = []
    for name, values in COLUMNS.items():
        if name in MEASUREMENTS:
            part = np.array(values, dtype="<f8").tobytes()
            datatype = "FP64"
        else:
            texts = [(value or "").encode() for value in values]
            part = b"".join(struct.pack("<I", len(text)) + text for text in texts)
            datatype = "BYTES"
        tensor = {"name": name, "shape": [len(values), 1], "datatype": datatype}
        tensors.append(tensor | {"parameters": {"binary_data_size": len(part)}})
        parts.append(part)

    head = msgspec.json.encode({"inputs": tensors[::-1]})
    body = head + b"".join(parts[::-1])
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert predictions_of(post("/v2/models/penguins/infer", body, headers)) == EXPECTED


def test_refused_category_has_a_place(tmp_path):
    """An estimator that refuses unseen categories is answered by 400 with row and feature."""
    penguins = load_penguins()
    dataset = Dataset(penguins[FEATURES], penguins["species"])
    model = train_model("penguins", dataset, build_strict_estimator)
    write_model(tmp_path / "model.pkl", model)
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))

    body = msgspec.json.encode({"features": [ROWS[0], [39, 18, 181, 3750, "Atlantis", None]]})
    response = in_process(app, "POST", "/predict", body, JSON)
    message = "The model cannot score the category of `island` in row 1"
    assert (response.status, response.json) == (400, {"error": message})


def test_nan_is_a_missing_value():
    """Python's json writes NaN, which is no JSON; strings keep the word."""
    body = json.dumps({"features": [39.1, float("nan"), 181, 3750, "NaN", None]}).encode()
    assert b" NaN, " in body
    response = post("/predict", body)
    assert (response.status, len(response.json["prediction"])) == (200, 1)

    report = in_process(APP, "GET", "/drift").json["features"]
    assert report[4]["live"][report[4]["bins"].index("unseen")] > 0

    body = b'{"features":[39.1,18,181,3750,NaN,null]}'
    assert "Expected `str`, got `null` - at `$.features[4]`" in post("/predict", body).json["error"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"features":[39.1,Infinity,181,3750,"Dream",NaN]}',
        b'{"features":[39.1,-NaN,181,3750,"Dream",NaN]}',
        b'{"features":[39.1,NaNa,181,3750,"Dream",null]}',
        b'{"features":[NaN,"' + rb"\"" * 400_000,
    ],
    ids=["Infinity", "minus", "longer word", "string without end"],
)
def test_other_words_are_malformed(body):
    """NaN is the one word beside those of JSON."""
    response = post("/predict", body)
    assert response.status == 400
    assert re.search("JSON is malformed|truncated", response.json["error"])


INVALID_VALUES = {
    "string for a number": (["39", 18, 181, 3750, "Dream", None], "float | null`, got `str", "[0]"),
    "number for a string": ([39, 18, 181, 3750, 1, None], "`str`, got `float", "[4]"),
    "boolean for a number": ([39, 18, True, 3750, "Dream", None], "null`, got `bool", "[2]"),
    "null where required": ([39, 18, 181, 3750, None, None], "`str`, got `null", "[4]"),
    "array for a value": ([39, [18], 181, 3750, "Dream", None], "Expected", ""),
    "too few values": ([39, 18, 181, 3750, "Dream"], "6 values, got 5", ""),
    "beyond float32": ([39, 18, 181, 1e39, "Dream", None], "Expected `float` <=", "[3]"),
}


@pytest.mark.parametrize(("row", "text", "place"), INVALID_VALUES.values(), ids=INVALID_VALUES)
def test_invalid_value_has_a_place(row, text, place):
    """A value of another type is status 400, with its place, alone and among rows."""
    response = post("/predict", {"features": row})
    assert response.status == 400
    assert text in response.json["error"]
    assert f"- at `$.features{place}" in response.json["error"]

    response = post("/v1/models/penguins:predict", {"instances": [ROWS[0], row]})
    assert response.status == 400
    assert f"- at `$.instances[1]{place}" in response.json["error"]


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([json_tensor("sex", ["male"])], "Expected an input for each of"),
        ([json_tensor("island", ["Dream"]), json_tensor("sex", ["male", None])], "same N"),
        ([json_tensor("island", [1])], "Expected `str`, got `float` - at `$.inputs[0].data[0]`"),
        ([json_tensor("island", ["Dream"])] * 2, "Expected an input for each of"),
        (
            [json_tensor("island", ["Dream"]) | {"datatype": "FP64"}],
            "Expected `float | array | null`, got `str` - at `$.inputs[0].data[0]`",
        ),
        (
            [json_tensor("island", ["Dream"]), json_tensor("body_mass_g", [True])],
            "Expected `float | array | null`, got `bool` - at `$.inputs[1].data[0]`",
        ),
        ([json_tensor("island", ["Dream"]) | {"shape": [2]}], "Expected data of shape [2]"),
    ],
)
def test_invalid_tensors_return_400(tensors, text):
    """Each feature that may not be missing has a tensor, with values of its type."""
    response = post("/v2/models/penguins/infer", {"inputs": tensors})
    assert (response.status, text in response.json["error"]) == (400, True), response.json


BINARY_STRINGS = {
    "length beyond the data": (b"\x09\0\0\0Dream", "Expected 1 strings with their lengths"),
    "no length": (b"\x05\0", "Expected 1 strings with their lengths"),
    "two strings": (b"\x01\0\0\0D\x01\0\0\0E", "Expected 1 strings with their lengths"),
    "length of 4 GB": (b"\xff\xff\xff\xff", "Expected 1 strings with their lengths"),
    "no UTF-8": (b"\x01\0\0\0\xff", "A string is not UTF-8"),
}


@pytest.mark.parametrize(("data", "text"), BINARY_STRINGS.values(), ids=BINARY_STRINGS)
def test_invalid_binary_strings_return_400(data, text):
    """Each string follows its length, and the last one ends with the tensor."""
    tensor = {"name": "island", "shape": [1], "datatype": "BYTES"}
    head = msgspec.json.encode(
        {"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}
    )
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = post("/v2/models/penguins/infer", head + data, headers)
    assert (response.status, text in response.json["error"]) == (400, True), response.json


@pytest.mark.parametrize("column", ["island", "sex"])
def test_unseen_category_is_passed_and_counted(column):
    """The estimator ignores a category that training had not, and drift counts it."""
    app = create_app(MODEL_PATH=str(model_file("penguins")))
    body = msgspec.json.encode({"features": {"island": "Dream"} | {column: "unknown"}})
    assert in_process(app, "POST", "/predict", body, JSON).status == 200

    report = in_process(app, "GET", "/drift").json
    [feature] = [found for found in report["features"] if found["name"] == column]
    assert feature["live"][feature["bins"].index("unseen")] == 1
