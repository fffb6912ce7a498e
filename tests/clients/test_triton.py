"""NVIDIA Triton's client on Open Inference Protocol V2."""

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from clients.examples import CLASSES, LABELS, ROWS

PROTOCOL = "Open Inference V2"
CLIENT = "tritonclient"


@pytest.fixture
def triton(address):
    with tritonclient.http.InferenceServerClient(address) as client:
        yield client


def input_tensor(dtype, binary=True):
    rows = np.array(ROWS, dtype)
    datatype = np_to_triton_dtype(rows.dtype)
    tensor = tritonclient.http.InferInput("features", list(rows.shape), datatype)
    return tensor.set_data_from_numpy(rows, binary_data=binary)


@pytest.mark.claim(PROTOCOL, CLIENT, "live, ready, metadata of server and model")
def test_health_and_metadata(triton, model):
    name = model["name"]
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(name)
    assert triton.is_model_ready(name, model["version"])
    assert not triton.is_model_ready("rose")

    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    outputs = triton.get_model_metadata(name)["outputs"]
    assert [output["name"] for output in outputs] == ["predict", "predict_proba", "label"]


@pytest.mark.claim(PROTOCOL, CLIENT, "infer with its defaults: binary in, binary out")
def test_infer_with_defaults(triton, model):
    result = triton.infer(model["name"], [input_tensor(np.float32)])
    assert result.as_numpy("predict").tolist() == CLASSES
    assert result.as_numpy("predict_proba").argmax(axis=1).tolist() == CLASSES
    assert [label.decode() for label in result.as_numpy("label")] == LABELS
    assert result.get_response()["model_version"] == model["version"]


@pytest.mark.claim(PROTOCOL, CLIENT, "infer with FP64, FP16 and INT32, by version, with an id")
def test_infer_with_each_datatype(triton, model):
    for dtype in (np.float64, np.float16, np.int32):
        result = triton.infer(
            model["name"],
            [input_tensor(dtype)],
            model_version=model["version"],
            request_id="7",
        )
        assert result.as_numpy("predict").tolist()[0] == 0
        assert result.get_response()["id"] == "7"


@pytest.mark.claim(PROTOCOL, CLIENT, "infer with JSON in and JSON out")
def test_infer_with_json(triton, model):
    outputs = [
        tritonclient.http.InferRequestedOutput(name, binary_data=False)
        for name in ("label", "predict")
    ]
    tensor = input_tensor(np.float64, binary=False)
    result = triton.infer(model["name"], [tensor], outputs=outputs)
    assert result.as_numpy("predict").tolist() == CLASSES
    assert result.as_numpy("label").tolist() == LABELS
    assert result.as_numpy("predict_proba") is None


@pytest.mark.claim(PROTOCOL, CLIENT, "infer with compressed requests")
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_infer_compressed(triton, model, algorithm):
    for binary in (True, False):
        result = triton.infer(
            model["name"],
            [input_tensor(np.float64, binary)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        assert result.as_numpy("predict").tolist() == CLASSES


@pytest.mark.claim(PROTOCOL, CLIENT, "infer with one input per feature")
def test_infer_with_columns(triton, model):
    inputs = []
    for i in (2, 0, 3, 1):
        column = np.array(ROWS, np.float32)[:, [i]]
        name = model["features"][i]
        tensor = tritonclient.http.InferInput(name, list(column.shape), "FP32")
        inputs.append(tensor.set_data_from_numpy(column))
    result = triton.infer(model["name"], inputs)
    assert result.as_numpy("predict").tolist() == CLASSES


@pytest.mark.claim(PROTOCOL, CLIENT, "an error raises its own exception, with our message")
def test_error_raises_client_exception(triton, model):
    wrong_shape = input_tensor(np.float32).set_shape([2, 6])
    with pytest.raises(InferenceServerException, match="Expected the shape"):
        triton.infer(model["name"], [wrong_shape])
    with pytest.raises(InferenceServerException, match="Not Found"):
        triton.infer("rose", [input_tensor(np.float32)])
