"""Open Inference Protocol V2: members that are null, and bodies without JSON."""

import numpy as np
import pytest

from app import create_app
from endpoints import CLASSES, OPEN_INFERENCE, ROWS, assert_error, read_predict_output
from fixture_models import model_file
from helpers import in_process
from tensors import binary_input, json_input, post_infer
from zoo_models import zoo_model

NO_JSON = {"Inference-Header-Content-Length": "0"}


@pytest.mark.parametrize(
    "members",
    [
        {"id": None, "outputs": None, "parameters": None},
        {"outputs": [{"name": "predict", "parameters": None}]},
        {"outputs": [{"name": "predict", "parameters": {"binary_data": None}}]},
        {"parameters": {"binary_data_output": None}},
    ],
)
def test_null_is_as_if_left_out(call, members):
    """MLServer's codec writes null for each optional member."""
    tensor = json_input(parameters=None)
    response = post_infer(call, {"inputs": [tensor], **members})
    assert read_predict_output(response.json) == CLASSES


def test_null_data_beside_binary_data(call):
    """`data` is null if the data are binary, and the size is null if they are not."""
    rows = np.array(ROWS, "<f4").tobytes()
    response = post_infer(call, {"inputs": [binary_input(data=None)]}, rows)
    assert read_predict_output(response.json) == CLASSES

    tensor = json_input(parameters={"binary_data_size": None})
    assert read_predict_output(post_infer(call, {"inputs": [tensor]}).json) == CLASSES

    tensor = json_input(data=None)
    assert_error(
        post_infer(call, {"inputs": [tensor]}), OPEN_INFERENCE, 400, "Expected either data or"
    )


def test_raw_body_is_the_only_input(call):
    """A body without JSON is the data of the input, as `curl --data-binary` sends a file."""
    body = np.array(ROWS, "<f8").tobytes()
    response = call("POST", OPEN_INFERENCE.path, body, NO_JSON)
    assert read_predict_output(response.json) == CLASSES


@pytest.mark.parametrize("body", [b"", b"x", np.zeros(7, "<f8").tobytes()])
def test_raw_body_has_whole_rows(call, body):
    """Bytes that are no rows of float64 are refused."""
    response = call("POST", OPEN_INFERENCE.path, body, NO_JSON)
    assert_error(response, OPEN_INFERENCE, 400, "Expected .* bytes|The body is empty|truncated")


def test_raw_body_may_begin_with_any_bytes(call):
    """The bytes of a number may be those of a byte order mark, which only JSON begins with."""
    near_one = b"\xef\xbb\xbf\x00\x00\x00\xf0\x3f"
    response = call("POST", OPEN_INFERENCE.path, near_one * 4, NO_JSON)
    assert (response.status, response.json["outputs"][0]["shape"]) == (200, [1])


def test_raw_body_of_missing_numbers():
    """NaN in a body without JSON is a missing number, for a model that takes one."""
    model, path = zoo_model("HistGradientBoostingClassifier with gaps")
    app = create_app(MODEL_PATH=str(path))
    rows = model.data.rows[:20]
    assert np.isnan(rows).any()
    response = in_process(
        app, "POST", "/v2/models/zoo/infer", rows.astype("<f8").tobytes(), NO_JSON
    )
    expected = model.estimator.predict(rows).tolist()
    assert response.json["outputs"][0]["data"] == expected


def test_raw_body_of_texts_is_refused():
    """Only numbers have a length from which the number of rows follows."""
    app = create_app(MODEL_PATH=str(model_file("languages")))
    response = in_process(app, "POST", "/v2/models/languages/infer", b"hello", NO_JSON)
    assert_error(response, OPEN_INFERENCE, 400, "only the data of a single FP64 input")
