"""Open Inference Protocol V2: metadata, health, and inference on JSON and binary tensors."""

import json
import re
import struct

import numpy as np
import pytest

import serving
from endpoints import CLASSES, ESTIMATOR, ROWS, read_predict_output
from helpers import NAMES, VERSION, VIRGINICA
from tensors import BINARY_DTYPES, binary_input, json_input, post_infer

JSON_DATATYPES = [datatype for datatype in BINARY_DTYPES if datatype != "FP16"]


def split_binary_response(response):
    """Return the output tensors and the binary data after the JSON."""
    length = int(response.headers["Inference-Header-Content-Length"])
    return json.loads(response.body[:length])["outputs"], response.body[length:]


def test_server_metadata(call):
    """The server states its name, version and extensions, with and without a final slash."""
    expected = {
        "name": "flask-ml-model",
        "version": serving.__version__,
        "extensions": ["binary_tensor_data"],
    }
    assert call("GET", "/v2").json == call("GET", "/v2/").json == expected


@pytest.mark.parametrize("path", ["/v2/models/iris", f"/v2/models/iris/versions/{VERSION}"])
def test_model_metadata(call, path):
    """The model states its tensors and whether it is ready, with and without a version."""
    assert call("GET", path).json == {
        "name": "iris",
        "versions": [VERSION],
        "platform": "sklearn_joblib",
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}],
        "outputs": [
            {"name": "predict", "datatype": "INT64", "shape": [-1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    assert call("GET", f"{path}/ready").json == {"name": "iris", "ready": True}


def test_server_health(call):
    """Live and ready have the members that the specification and KServe's client read."""
    assert call("GET", "/v2/health/live").json == {"live": True}
    assert call("GET", "/v2/health/ready").json == {"live": True, "ready": True}


def test_all_outputs_by_default(call):
    """A request without outputs receives all of them, and its own id."""
    payload = post_infer(call, {"id": "a/b", "inputs": [json_input()]}).json
    assert list(payload) == ["model_name", "model_version", "id", "outputs"]
    assert payload["model_name"] == "iris"
    assert payload["model_version"] == VERSION
    assert payload["id"] == "a/b"

    predict, probabilities, label = payload["outputs"]
    assert predict == {"name": "predict", "datatype": "INT64", "shape": [2], "data": CLASSES}
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP64", [2, 3])
    expected = ESTIMATOR.predict_proba(ROWS).ravel()
    np.testing.assert_allclose(probabilities["data"], expected, rtol=1e-12)
    labels = ["setosa", "virginica"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": labels}


def test_requested_outputs_only(call):
    """Requested outputs come alone and in the requested order; an id is generated."""
    outputs = [{"name": "label"}, {"name": "predict"}]
    payload = post_infer(call, {"inputs": [json_input()], "outputs": outputs}).json
    assert [output["name"] for output in payload["outputs"]] == ["label", "predict"]
    assert re.fullmatch("[0-9a-f-]{36}", payload["id"])


def rows_in(datatype):
    """Return the rows as `datatype` holds them."""
    rows = np.array(ROWS)
    if "INT" in datatype:
        rows = rows.round()
    return rows.astype(BINARY_DTYPES[datatype])


def assert_probabilities(response, rows):
    probabilities = response.json["outputs"][1]["data"]
    expected = ESTIMATOR.predict_proba(rows.astype(float)).ravel()
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)


@pytest.mark.parametrize("datatype", BINARY_DTYPES)
def test_binary_tensor_of_each_datatype(call, datatype):
    """A binary tensor of each datatype is scored as its values."""
    rows = rows_in(datatype)
    tensor = binary_input(datatype=datatype, parameters={"binary_data_size": rows.nbytes})
    assert_probabilities(post_infer(call, {"inputs": [tensor]}, rows.tobytes()), rows)


@pytest.mark.parametrize("datatype", JSON_DATATYPES)
def test_json_tensor_of_each_datatype(call, datatype):
    """A JSON tensor, nested or flat, is scored as the binary tensor of the same datatype."""
    rows = rows_in(datatype)
    values = np.array(ROWS)
    if "INT" in datatype:
        values = values.round()
    for data in (values.tolist(), values.ravel().tolist()):
        tensor = json_input(datatype=datatype, data=data)
        assert_probabilities(post_infer(call, {"inputs": [tensor]}), rows)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_one_tensor_per_feature(call, shape):
    """Tensors named after the features come in any order and must have one length."""
    inputs = [
        json_input(name=NAMES[i], shape=shape, data=[row[i] for row in ROWS]) for i in (3, 1, 0, 2)
    ]
    assert read_predict_output(post_infer(call, {"inputs": inputs}).json) == CLASSES

    inputs[1]["shape"] = [1]
    assert post_infer(call, {"inputs": inputs}).status == 400


def test_one_row_without_row_dimension(call):
    """A tensor of one dimension is one row."""
    tensor = json_input(shape=[4], data=VIRGINICA)
    assert read_predict_output(post_infer(call, {"inputs": [tensor]}).json) == [2]


def test_binary_outputs_follow_json(call):
    """With binary_data_output every output is binary data, in the order of the outputs."""
    rows = np.array(ROWS, "<f4")
    request = {"inputs": [binary_input()], "parameters": {"binary_data_output": True}}
    response = post_infer(call, request, rows.tobytes())
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/octet-stream"

    outputs, remaining = split_binary_response(response)
    parts = []
    for output in outputs:
        assert "data" not in output
        size = output["parameters"]["binary_data_size"]
        parts.append(remaining[:size])
        remaining = remaining[size:]
    assert remaining == b""

    predict, probabilities, labels = parts
    assert np.frombuffer(predict, "<i8").tolist() == CLASSES
    expected = ESTIMATOR.predict_proba(rows.astype(float)).ravel()
    np.testing.assert_allclose(np.frombuffer(probabilities, "<f8"), expected)
    assert labels == struct.pack("<I6sI9s", 6, b"setosa", 9, b"virginica")


def test_output_overrides_binary_default(call):
    """The parameter of an output goes before the parameter of the request."""
    request = {
        "inputs": [json_input()],
        "outputs": [
            {"name": "predict", "parameters": {"binary_data": False}},
            {"name": "label"},
        ],
        "parameters": {"binary_data_output": True},
    }
    [predict, label], _ = split_binary_response(post_infer(call, request))
    assert predict["data"] == CLASSES
    assert "data" not in label
