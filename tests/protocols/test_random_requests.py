"""Random requests: none is answered with a 500, and the body's size bounds the memory."""

import json
import resource
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import create_app
from endpoints import CSV, KSERVE_V1, OPEN_INFERENCE
from helpers import JSON, NAMES, in_process
from serving.api.service import service_of
from serving.config import Settings
from serving.protocols.open_inference_codec import InferCodec
from tensors import BINARY_DTYPES

MAX_MEMORY_GROWTH_KB = 64 * 1024
APP = create_app()

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3)
)


def containers(values):
    return st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3)


json_values = st.recursive(scalars, containers)
float32_numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
sizes = st.integers(-5, 9) | st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64, 10**30])
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", *NAMES]) | json_values,
        "shape": st.lists(sizes, max_size=3) | json_values,
        "datatype": st.sampled_from([*BINARY_DTYPES, "BYTES", "BOOL", "BF16"]) | json_values,
    },
    optional={
        "data": st.lists(float32_numbers | json_values, max_size=9) | json_values,
        "parameters": st.fixed_dictionaries({"binary_data_size": sizes | json_values})
        | json_values,
    },
)
requested_outputs = st.fixed_dictionaries({"name": st.sampled_from(["predict", "label", "x"])})
infer_requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=4) | json_values},
    optional={
        "outputs": st.lists(requested_outputs) | json_values,
        "parameters": st.fixed_dictionaries({"binary_data_output": st.booleans() | json_values})
        | json_values,
    },
)

FLOAT32_ROW = {
    "name": "x",
    "shape": [4],
    "datatype": "FP32",
    "parameters": {"binary_data_size": 16},
}
QUIET_NANS = struct.pack("<f", float("nan")) * 4
SIGNALLING_NANS = b"\x01\x00\xa0\x7f" * 4


@settings(deadline=None)
@given(infer_requests, st.binary(max_size=80), st.integers(-3, 3) | st.none())
@example({"inputs": [FLOAT32_ROW]}, QUIET_NANS, 0)
@example({"inputs": [FLOAT32_ROW]}, SIGNALLING_NANS, 0)
def test_random_inference_requests(request, binary_data, length_error):
    """Any inference request is served or refused with an error."""
    body = json.dumps(request).encode()
    headers = {}
    if length_error is not None:
        headers["Inference-Header-Content-Length"] = str(len(body) + length_error)
    response = in_process(APP, "POST", OPEN_INFERENCE.path, body + binary_data, headers)
    assert response.status in (200, 400)
    assert response.status == 200 or list(response.json) == ["error"]


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_binary_tensor_round_trip(n_rows, data):
    """A binary tensor is decoded to the values that were encoded."""
    n_values = 4 * n_rows
    values = data.draw(st.lists(float32_numbers, min_size=n_values, max_size=n_values))
    rows = np.array(values, "<f4").reshape(n_rows, 4)
    tensor = FLOAT32_ROW | {
        "shape": [n_rows, 4],
        "parameters": {"binary_data_size": rows.nbytes},
    }
    body = msgspec.json.encode({"inputs": [tensor]})
    decoded, _ = InferCodec(service_of(APP).row_decoder).decode(
        body + rows.tobytes(), str(len(body))
    )
    np.testing.assert_array_equal(decoded, rows)


members = st.sampled_from(
    ["instances", "inputs", "dataframe_split", "dataframe_records", "data", "input_data", "columns"]
)
integer_rows = st.lists(st.lists(st.integers(0, 9), max_size=5))
frames = st.dictionaries(members | st.sampled_from(NAMES), json_values | integer_rows)
tabular_requests = (
    st.dictionaries(members, frames | json_values) | st.lists(json_values) | json_values
)


@settings(deadline=None)
@given(st.sampled_from([KSERVE_V1.path, "/invocations", "/score"]), tabular_requests)
def test_random_tabular_requests(path, request):
    """Any tabular request is served or refused."""
    response = in_process(APP, "POST", path, json.dumps(request), JSON)
    assert response.status in (200, 400)


random_rows = st.lists(st.lists(st.floats() | st.text(max_size=3)))


@settings(deadline=None)
@given(st.text() | random_rows.map(str) | st.binary())
def test_random_csv(text):
    """Any CSV body is served or refused."""
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    assert in_process(APP, "POST", "/invocations", body, CSV).status in (200, 400)


def peak_memory_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def peak_before():
    """Return this process's peak memory before the first of the tests below."""
    return peak_memory_kb()


@pytest.fixture
def bounded_memory(peak_before):
    """Fail if this test and those before it raised the peak memory by more than the limit."""
    yield
    assert peak_memory_kb() - peak_before < MAX_MEMORY_GROWTH_KB


MAX_BODY_BYTES = Settings().max_body_bytes
HUGE_TENSOR = {
    "name": "x",
    "shape": [2**31, 4],
    "datatype": "FP64",
    "parameters": {"binary_data_size": 2**36},
}
MANY_BYTES = MAX_BODY_BYTES // 8


@pytest.mark.parametrize(
    ("tensor", "binary_bytes"),
    [
        (HUGE_TENSOR, MAX_BODY_BYTES // 2),
        (HUGE_TENSOR | {"shape": [2**62, 2**62]}, MAX_BODY_BYTES // 2),
        (HUGE_TENSOR | {"data": [0.0]}, MAX_BODY_BYTES // 2),
        (
            HUGE_TENSOR
            | {
                "shape": [MANY_BYTES // 4, 4],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": MANY_BYTES},
            },
            MANY_BYTES,
        ),
    ],
    ids=["huge shape", "overflowing shape", "data and size", "small integers"],
)
def test_tensor_memory_is_bounded(bounded_memory, tensor, binary_bytes):
    """A tensor that states far more than the body has is refused without allocating it."""
    body = msgspec.json.encode({"inputs": [tensor]})
    headers = {"Inference-Header-Content-Length": str(len(body))}
    body += b"\0" * binary_bytes
    response = in_process(APP, "POST", OPEN_INFERENCE.path, body, headers)
    assert response.status in (400, 413)


EMPTY_LISTS = b"[],[]," * (MAX_BODY_BYTES // 6 - 9)


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":' + b"[" * (MAX_BODY_BYTES - 5),
        b'{"x":[' + EMPTY_LISTS + b'0],"instances":[[1,1,1,1]],"y":0}',
    ],
    ids=["deep nesting", "many empty lists"],
)
def test_json_memory_is_bounded(bounded_memory, body):
    """JSON of many small or nested values needs no more than a multiple of the body."""
    response = in_process(APP, "POST", KSERVE_V1.path, body, JSON)
    assert response.status in (200, 400)
