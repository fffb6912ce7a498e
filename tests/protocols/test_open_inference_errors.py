"""Open Inference Protocol V2: requests that contradict themselves are refused."""

import numpy as np
import pytest

from endpoints import OPEN_INFERENCE, ROWS, assert_error
from helpers import JSON
from tensors import binary_input, json_input, post_infer

# The members of a binary tensor, the number of bytes after the JSON, and the error.
INVALID_SIZES = {
    "size too small": ({"parameters": {"binary_data_size": 31}}, 31, "Expected 32 bytes for FP32"),
    "size too large": ({"parameters": {"binary_data_size": 33}}, 33, "Expected 32 bytes for FP32"),
    "size negative": ({"parameters": {"binary_data_size": -32}}, 32, "Expected 32 bytes for FP32"),
    "size a string": (
        {"parameters": {"binary_data_size": "32"}},
        32,
        r"Expected `int \| null`, got `str`",
    ),
    "bytes missing": ({}, 31, "got 32 with 31 bytes left"),
    "bytes too many": ({}, 33, "Expected 32 bytes of binary data after the JSON, got 33"),
    "no bytes": ({}, 0, "got 32 with 0 bytes left"),
    "data and size": ({"data": ROWS}, 32, "Expected either data or parameters.binary_data_size"),
    "negative shape": ({"shape": [-2, -4]}, 32, "Expected `int` >= 1"),
    "empty shape": ({"shape": []}, 32, "Expected `array` of length >= 1"),
    "no rows": ({"shape": [0, 4]}, 0, "Expected `int` >= 1"),
    "shape too long": ({"shape": [1] * 300_000}, 32, "Expected `array` of length <= 2"),
    "shape overflows": ({"shape": [2**62, 4]}, 32, "got 32"),
    "beyond 64 bits": (
        {"shape": [2**64, 4]},
        32,
        "Expected `int` <= 9223372036854775807|out of range",
    ),
    "wrong features": ({"shape": [4, 2]}, 32, r"Expected the shape \[N, 4\] or \[4\]"),
    "BYTES": ({"datatype": "BYTES"}, 32, "Invalid enum value 'BYTES'"),
    "BOOL": ({"datatype": "BOOL"}, 8, "Invalid enum value 'BOOL'"),
    "shared memory": ({"parameters": {"shared_memory_region": "x"}}, 0, "Expected either data or"),
}


@pytest.mark.parametrize(
    ("members", "n_bytes", "pattern"), INVALID_SIZES.values(), ids=INVALID_SIZES
)
def test_invalid_binary_size_returns_400(call, members, n_bytes, pattern):
    """Size, shape, datatype and the bytes after the JSON must agree."""
    request = {"inputs": [binary_input(**members)]}
    response = post_infer(call, request, b"\0" * n_bytes, b"")
    assert_error(response, OPEN_INFERENCE, 400, pattern)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_invalid_binary_number_returns_400(call, value):
    """A binary number must be finite and within float32."""
    tensor = binary_input(shape=[4], datatype="FP64")
    row = np.array([1, 2, value, 4], "<f8")
    response = post_infer(call, {"inputs": [tensor]}, row.tobytes())
    pattern = r"Expected finite numbers of at most 3.4\d*e\+38 - at `\$.inputs\[0\]`"
    assert_error(response, OPEN_INFERENCE, 400, pattern)


@pytest.mark.parametrize(
    "length",
    ["-1", "1e2", "", "9" * 5000, "0" * 5000, "x", "\u0663", "999999"],
    ids=["negative", "float", "empty", "nines", "zeros", "letter", "other digit", "too long"],
)
def test_invalid_json_length_returns_400(call, length):
    """The length of the JSON is a decimal number of at most the body's length."""
    headers = JSON | {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    response = call("POST", OPEN_INFERENCE.path, OPEN_INFERENCE.encode(ROWS), headers)
    pattern = "Expected a JSON length of at most the body's [0-9]+ bytes"
    assert_error(response, OPEN_INFERENCE, 400, pattern)


def test_truncated_json_returns_400(call):
    """A length that ends within the JSON is refused."""
    body = OPEN_INFERENCE.encode(ROWS)
    headers = JSON | {"Inference-Header-Content-Length": str(len(body) - 1)}
    response = call("POST", OPEN_INFERENCE.path, body, headers)
    assert_error(response, OPEN_INFERENCE, 400, "Input data was truncated")


@pytest.mark.parametrize(
    ("members", "pattern"),
    [
        ({"datatype": "FP16"}, "FP16 has no JSON form"),
        ({"datatype": "INT64"}, "Expected numbers of INT64"),
        ({"datatype": "INT8", "data": [[128, 0, 0, 0]] * 2}, "Expected numbers of INT8"),
        ({"datatype": "UINT8", "data": [[-1, 0, 0, 0]] * 2}, "Expected numbers of UINT8"),
        ({"datatype": "INT64", "data": [[1e30, 0, 0, 0]] * 2}, "Expected numbers of INT64"),
        ({"shape": [1, 4]}, r"Expected data of shape \[1, 4\]"),
        ({"data": [1, 2, 3]}, r"Expected data of shape \[2, 4\]"),
        ({"data": [[1, 2, 3], [4, 5, 6, 7, 8]]}, r"Expected data of shape \[2, 4\]"),
        ({"data": [[], []], "shape": [2]}, r"Expected data of shape \[2\]"),
        ({"data": [1, [2]], "shape": [2]}, r"Expected data of shape \[2\]"),
    ],
)
def test_invalid_json_data_returns_400(call, members, pattern):
    """JSON data must have the shape and the datatype that the tensor states."""
    response = post_infer(call, {"inputs": [json_input(**members)]})
    assert_error(response, OPEN_INFERENCE, 400, pattern)


@pytest.mark.parametrize(
    ("members", "pattern"),
    [
        ({"inputs": []}, "Expected one input, or 4 inputs named after the features, got 0"),
        (
            {"inputs": [json_input()] * 2},
            "Expected one input, or 4 inputs named after the features, got 2",
        ),
        (
            {"outputs": [{"name": "x"}]},
            r"Expected one of predict, predict_proba, label - at `\$.outputs\[0\].name`",
        ),
        (
            {"outputs": [{"name": "label"}] * 2},
            r"Expected one of predict, predict_proba - at `\$.outputs\[1\].name`",
        ),
        (
            {"outputs": [{"name": "predict", "parameters": {"classification": 2}}]},
            "unknown field `classification`",
        ),
        ({"id": 1}, r"Expected `str \| null`, got `int`"),
    ],
    ids=["no input", "two inputs", "unknown output", "repeated output", "classification", "id"],
)
def test_invalid_inference_request_returns_400(call, members, pattern):
    """Inputs, outputs and id must be ones that the model can serve."""
    response = post_infer(call, {"inputs": [json_input()]} | members)
    assert_error(response, OPEN_INFERENCE, 400, pattern)
