"""KServe's client on Open Inference Protocol V2 and KServe V1, and its types of the protocol."""

import asyncio
import urllib.request

import numpy as np
import pytest
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.rest import v2_datamodels

from clients.examples import CLASSES, LABELS, ROWS

V1 = "KServe V1"
V2 = "Open Inference V2"


def run_client(protocol, use_client):
    """Return what the coroutine function `use_client` returns for KServe's client."""

    async def run():
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            return await use_client(client)

    return asyncio.run(run())


@pytest.mark.claim(V2, "kserve", "live, ready, model ready")
def test_v2_health(address, model):
    async def use_client(client):
        url = f"http://{address}"
        return [
            await client.is_server_live(url),
            await client.is_server_ready(url),
            await client.is_model_ready(url, model["name"]),
            await client.is_model_ready(url, "rose"),
        ]

    assert run_client("v2", use_client) == [True, True, True, False]


@pytest.mark.claim(V2, "kserve", "infer with JSON and binary data")
@pytest.mark.parametrize("binary", [False, True])
def test_v2_infer(address, model, binary):
    name = model["name"]
    tensor = InferInput("features", [3, 4], "FP64")
    tensor.set_data_from_numpy(np.array(ROWS), binary_data=binary)
    parameters = {"binary_data_output": binary}
    request = InferRequest(name, [tensor], request_id="7", parameters=parameters)

    response = run_client("v2", lambda client: client.infer(f"http://{address}", request, name))
    assert (response.id, response.model_name) == ("7", name)

    predict, probabilities, label = response.outputs
    assert predict.as_numpy().tolist() == CLASSES
    assert probabilities.as_numpy().shape == (3, 3)
    assert label.as_numpy().tolist() == LABELS


@pytest.mark.claim(V1, "kserve", "live, ready")
def test_v1_health(address, model):
    async def use_client(client):
        url = f"http://{address}"
        return [
            await client.is_server_live(url),
            await client.is_model_ready(url, model["name"]),
        ]

    assert run_client("v1", use_client) == [True, True]


def predict_v1(address, model, rows):
    request = {"instances": rows}
    return run_client(
        "v1", lambda client: client.infer(f"http://{address}", request, model["name"])
    )


@pytest.mark.claim(V1, "kserve", "predict, rows as arrays or by feature name")
def test_v1_predict(address, model):
    named_rows = [dict(zip(model["features"], row, strict=True)) for row in ROWS]
    assert predict_v1(address, model, ROWS) == {"predictions": CLASSES}
    assert predict_v1(address, model, named_rows) == {"predictions": CLASSES}


@pytest.mark.claim(V1, "kserve", "an error raises its own exception, with our message")
def test_v1_error_raises_client_exception(address, model):
    with pytest.raises(Exception, match="Expected 4 numbers, got 1"):
        predict_v1(address, model, [[1]])


def fetch(address, path, body=None):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}{path}", body, headers)
    with urllib.request.urlopen(request) as response:
        return response.read()


@pytest.mark.claim(V2, "kserve", "its types of the protocol's OpenAPI file parse every response")
def test_v2_types_parse_responses(address, model):
    """KServe's types are generated from the protocol's own OpenAPI file."""
    model_path = f"/v2/models/{model['name']}"
    response_types = {
        "/v2/": v2_datamodels.ServerMetadataResponse,
        "/v2/health/live": v2_datamodels.ServerLiveResponse,
        "/v2/health/ready": v2_datamodels.ServerReadyResponse,
        model_path: v2_datamodels.ModelMetadataResponse,
        f"{model_path}/versions/{model['version']}": v2_datamodels.ModelMetadataResponse,
        f"{model_path}/ready": v2_datamodels.ModelReadyResponse,
    }
    for path, response_type in response_types.items():
        response_type.model_validate_json(fetch(address, path), strict=True)

    tensor = v2_datamodels.RequestInput(name="x", shape=[3, 4], datatype="FP64", data=ROWS)
    request = v2_datamodels.InferenceRequest(id="42", inputs=[tensor])
    body = request.model_dump_json(exclude_none=True).encode()
    response = v2_datamodels.InferenceResponse.model_validate_json(
        fetch(address, f"{model_path}/infer", body), strict=True
    )
    assert (response.id, response.outputs[0].data) == ("42", CLASSES)
