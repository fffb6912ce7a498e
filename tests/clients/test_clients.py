"""The platforms' own clients, and nothing of ours between them and the service. `make test-clients` runs this."""

import asyncio
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tritonclient.http
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.rest import v2_datamodels
from mlflow.deployments import PredictionsResponse
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.utils.proto_json_utils import dump_input_data
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from conftest import FOUND, ROOT, claim

V2, V1, MLFLOW = "Open Inference V2", "KServe V1", "MLflow"
TRITON = "tritonclient"
ROWS = [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 5.1, 1.8], [6.3, 3.3, 6.0, 2.5]]
CLASSES, LABELS = [0, 2, 2], ["setosa", "virginica", "virginica"]


# NVIDIA Triton's client.


@pytest.fixture
def triton(address):
    with tritonclient.http.InferenceServerClient(address) as client:
        yield client


def tensor(dtype, binary=True):
    rows = np.array(ROWS, dtype)
    made = tritonclient.http.InferInput(
        "features", list(rows.shape), np_to_triton_dtype(rows.dtype)
    )
    return made.set_data_from_numpy(rows, binary_data=binary)


@claim(V2, TRITON, "live, ready, metadata of server and model")
def test_triton_reads_what_the_service_says_of_itself(triton, told):
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready(told["name"]) and triton.is_model_ready(
        told["name"], told["version"]
    )
    assert not triton.is_model_ready("rose")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    described = triton.get_model_metadata(told["name"])
    assert [output["name"] for output in described["outputs"]] == [
        "predict",
        "predict_proba",
        "label",
    ]


@claim(V2, TRITON, "infer with its defaults: binary in, binary out")
@pytest.mark.parametrize("dtype", [np.float32])
def test_triton_infers_with_its_defaults(triton, told, dtype):
    result = triton.infer(told["name"], [tensor(dtype)])
    assert result.as_numpy("predict").tolist() == CLASSES
    assert result.as_numpy("predict_proba").argmax(axis=1).tolist() == CLASSES
    assert [label.decode() for label in result.as_numpy("label")] == LABELS
    assert result.get_response()["model_version"] == told["version"]


@claim(V2, TRITON, "infer with FP64, FP16 and INT32, by version, with an id")
def test_triton_infers_with_each_datatype(triton, told):
    for dtype in (np.float64, np.float16, np.int32):
        result = triton.infer(
            told["name"], [tensor(dtype)], model_version=told["version"], request_id="7"
        )
        assert result.as_numpy("predict").tolist()[0] == 0
        assert result.get_response()["id"] == "7"


@claim(V2, TRITON, "infer in JSON, answered in JSON")
def test_triton_infers_in_json(triton, told):
    wanted = [
        tritonclient.http.InferRequestedOutput(name, binary_data=False)
        for name in ("label", "predict")
    ]
    result = triton.infer(told["name"], [tensor(np.float64, binary=False)], outputs=wanted)
    assert result.as_numpy("predict").tolist() == CLASSES
    assert result.as_numpy("label").tolist() == LABELS
    assert result.as_numpy("predict_proba") is None


@claim(V2, TRITON, "infer with an input for each feature")
def test_triton_infers_by_column(triton, told):
    inputs = []
    for i in (2, 0, 3, 1):
        column = np.array(ROWS, np.float32)[:, [i]]
        inputs.append(tritonclient.http.InferInput(told["features"][i], list(column.shape), "FP32"))
        inputs[-1].set_data_from_numpy(column)
    assert triton.infer(told["name"], inputs).as_numpy("predict").tolist() == CLASSES


@claim(V2, TRITON, "a refusal is its own exception, with our words")
def test_triton_understands_a_refusal(triton, told):
    for name, made, words in [
        (told["name"], tensor(np.float32).set_shape([2, 6]), "Expected the shape"),
        ("rose", tensor(np.float32), "Not Found"),
    ]:
        with pytest.raises(InferenceServerException, match=words):
            triton.infer(name, [made])


# KServe's client.


def kserve_client(protocol, use):
    async def run():
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            return await use(client)

    return asyncio.run(run())


@claim(V2, "kserve", "live, ready, model ready")
def test_kserve_v2_is_live_and_ready(address, told):
    async def use(client):
        url = f"http://{address}"
        return [
            await client.is_server_live(url),
            await client.is_server_ready(url),
            await client.is_model_ready(url, told["name"]),
            await client.is_model_ready(url, "rose"),
        ]

    assert kserve_client("v2", use) == [True, True, True, False]


@claim(V2, "kserve", "infer in JSON and binary")
@pytest.mark.parametrize("binary", [False, True])
def test_kserve_v2_infers(address, told, binary):
    made = InferInput("features", [3, 4], "FP64")
    made.set_data_from_numpy(np.array(ROWS), binary_data=binary)
    request = InferRequest(
        told["name"], [made], request_id="7", parameters={"binary_data_output": binary}
    )
    answer = kserve_client(
        "v2", lambda client: client.infer(f"http://{address}", request, told["name"])
    )
    assert (answer.id, answer.model_name) == ("7", told["name"])
    predict, probabilities, label = answer.outputs
    assert predict.as_numpy().tolist() == CLASSES
    assert probabilities.as_numpy().shape == (3, 3)
    assert [
        text.decode() if isinstance(text, bytes) else text for text in label.as_numpy().tolist()
    ] == LABELS


@claim(V1, "kserve", "live, ready")
def test_kserve_v1_is_live_and_ready(address, told):
    async def use(client):
        url = f"http://{address}"
        return [await client.is_server_live(url), await client.is_model_ready(url, told["name"])]

    assert kserve_client("v1", use) == [True, True]


@claim(V1, "kserve", "predict, rows or names")
def test_kserve_v1_predicts(address, told):
    for rows in (ROWS, [dict(zip(told["features"], row, strict=True)) for row in ROWS]):
        answer = kserve_client(
            "v1",
            lambda client, r=rows: client.infer(
                f"http://{address}", {"instances": r}, told["name"]
            ),
        )
        assert answer == {"predictions": CLASSES}


@claim(V1, "kserve", "a refusal is its own exception, with our words")
def test_kserve_v1_understands_a_refusal(address, told):
    with pytest.raises(Exception, match="Expected 4 numbers, got 1"):
        kserve_client(
            "v1",
            lambda client: client.infer(f"http://{address}", {"instances": [[1]]}, told["name"]),
        )


# The protocol's own document, as KServe writes it down in types.


def fetch(address, path, body=None, headers=None):
    request = urllib.request.Request(
        f"http://{address}{path}", body, headers or {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        return error.read()


@claim(V2, "kserve", "its types of the protocol's OpenAPI file read every answer")
def test_the_protocols_types_read_our_answers(address, told):
    name = told["name"]
    for path, kind in {
        "/v2/": "ServerMetadataResponse",
        "/v2/health/live": "ServerLiveResponse",
        "/v2/health/ready": "ServerReadyResponse",
        f"/v2/models/{name}": "ModelMetadataResponse",
        f"/v2/models/{name}/versions/{told['version']}": "ModelMetadataResponse",
        f"/v2/models/{name}/ready": "ModelReadyResponse",
    }.items():
        getattr(v2_datamodels, kind).model_validate_json(fetch(address, path), strict=True)
    asked = v2_datamodels.InferenceRequest(
        id="42",
        inputs=[v2_datamodels.RequestInput(name="x", shape=[3, 4], datatype="FP64", data=ROWS)],
    )
    body = asked.model_dump_json(exclude_none=True).encode()
    answer = v2_datamodels.InferenceResponse.model_validate_json(
        fetch(address, f"/v2/models/{name}/infer", body), strict=True
    )
    assert (answer.id, answer.outputs[0].data) == ("42", CLASSES)


# MLflow's scoring client, and its encoders.


@claim(MLFLOW, "mlflow-skinny", "ping, version")
def test_mlflow_finds_the_service_ready(address, told):
    client = ScoringServerClient(*address.split(":"))
    client.wait_server_ready(timeout=5)
    assert client.get_version() == told["version"]


@claim(MLFLOW, "mlflow-skinny", "invoke with a frame, an array, a list and params")
def test_mlflow_invokes(address, told):
    client = ScoringServerClient(*address.split(":"))
    frame = pd.DataFrame(ROWS, columns=told["features"])
    for data in (frame, frame[frame.columns[::-1]], pd.DataFrame(ROWS), np.array(ROWS), ROWS):
        answer = client.invoke(data, params={"temperature": 1})
        assert answer["predictions"] == CLASSES
    assert client.invoke(frame).get_predictions()[0].tolist() == CLASSES


@claim(MLFLOW, "mlflow-skinny", "its encoders, and pandas' records, columns and CSV")
def test_mlflow_encodes(address, told):
    frame = pd.DataFrame(ROWS, columns=told["features"])
    bodies = [
        dump_input_data(frame),
        json.dumps({"dataframe_records": frame.to_dict(orient="records")}),
        dump_input_data(np.array(ROWS), inputs_key="instances"),
        json.dumps({"inputs": frame.to_dict(orient="list")}),
    ]
    for body in bodies:
        answer = fetch(address, "/invocations", body.encode())
        assert PredictionsResponse.from_json(answer.decode()) == {"predictions": CLASSES}
    headers = {"Content-Type": "text/csv", "Accept": "application/json"}
    answer = fetch(address, "/invocations", frame.to_csv(index=False).encode(), headers)
    assert PredictionsResponse.from_json(answer.decode()) == {"predictions": CLASSES}


@claim(MLFLOW, "mlflow-skinny", "a refusal is its exception, with our words")
def test_mlflow_understands_a_refusal(address):
    with pytest.raises(Exception, match=r"error code 400.*Expected 4 numbers, got 1"):
        ScoringServerClient(*address.split(":")).invoke([[1.0]])


# Whatever the OpenAPI document allows, and what it does not.


@claim(
    "OpenAPI 3.1",
    "schemathesis",
    "every operation, all checks but what `tests/clients/schemathesis.toml` says",
)
def test_every_operation_is_as_the_document_says(address):
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
            *("run", "--no-color", "--seed=0", f"http://{address}/openapi.json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    selected, tested = re.search(r"Selected: (\d+/\d+)\s+Tested: (\d+)", done.stdout).groups()
    assert selected == f"{tested}/{tested}"


def test_the_readmes_table_is_what_was_found_here():
    document = (ROOT / "docs/api.md").read_text()
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \| (yes|no) \|$", document, re.MULTILINE)
    assert rows == list(dict.fromkeys(FOUND))
