"""The prediction endpoint of each platform, as tests call it: path, request, predictions, error."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import Template
from typing import Any

import joblib
import msgspec
import pytest

from helpers import JSON, MODEL_FILE, NAMES, SETOSA, VERSION, VIRGINICA

CSV = {"Content-Type": "text/csv"}

ROWS = [SETOSA, VIRGINICA]
CLASSES = [0, 2]
NAMED_ROWS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
ROWS_BY_COLUMN = {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}

SHUFFLED = [3, 1, 0, 2]
SHUFFLED_SPLIT = {
    "columns": [NAMES[i] for i in SHUFFLED],
    "index": [7, "x"],
    "data": [[row[i] for i in SHUFFLED] for row in ROWS],
}

ESTIMATOR = joblib.load(MODEL_FILE)


def plain_error(text: str, status: int) -> dict[str, str]:
    return {"error": text}


def invocations_error(text: str, status: int) -> dict[str, str]:
    code = "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"
    return {"error": text, "error_code": code, "message": text}


def message_error(text: str, status: int) -> dict[str, str]:
    return {"message": text}


def read_array(payload: Any) -> Any:
    return payload


def read_prediction(payload: Any) -> Any:
    return payload["prediction"]


def read_predictions(payload: Any) -> Any:
    assert list(payload) == ["predictions"]
    return payload["predictions"]


def read_predict_output(payload: Any) -> Any:
    [tensor] = [output for output in payload["outputs"] if output["name"] == "predict"]
    assert (tensor["datatype"], tensor["shape"]) == ("INT64", [len(tensor["data"])])
    return tensor["data"]


@dataclass(frozen=True)
class Endpoint:
    """One way to ask for predictions; `request` is JSON with $rows and $n_rows in it."""

    path: str
    request: str
    read_predictions: Callable[[Any], Any] = read_array
    error_body: Callable[[str, int], dict[str, str]] = plain_error

    def body(self, rows_json: str, n_rows: int = 1) -> bytes:
        return Template(self.request).substitute(rows=rows_json, n_rows=n_rows).encode()

    def encode(self, rows: Any) -> bytes:
        return self.body(json.dumps(rows), len(rows))

    def post(self, call: Any, payload: Any, headers: dict[str, str] = JSON) -> Any:
        return call("POST", self.path, msgspec.json.encode(payload), headers)


TENSOR_REQUEST = '{"inputs":[{"name":"x","shape":[$n_rows,4],"datatype":"FP64","data":$rows}]}'
INSTANCES_REQUEST = '{"instances":$rows}'
INPUTS_REQUEST = '{"inputs":$rows}'

PREDICT = Endpoint("/predict", '{"features":$rows}', read_prediction)
OPEN_INFERENCE = Endpoint("/v2/models/iris/infer", TENSOR_REQUEST, read_predict_output)
KSERVE_V1 = Endpoint("/v1/models/iris:predict", INSTANCES_REQUEST, read_predictions)
VERTEX_AI = Endpoint(
    "/v1/endpoints/1/deployedModels/2:predict", INSTANCES_REQUEST, read_predictions
)
SAGEMAKER = Endpoint("/invocations", "$rows", read_array, invocations_error)
MLFLOW = Endpoint("/invocations", INPUTS_REQUEST, read_predictions, invocations_error)
AZURE_ML = Endpoint("/score", '{"data":$rows}', read_array, message_error)

ENDPOINTS = {
    "own API": PREDICT,
    "Open Inference V2": OPEN_INFERENCE,
    "Open Inference V2, with version": Endpoint(
        f"/v2/models/iris/versions/{VERSION}/infer", TENSOR_REQUEST, read_predict_output
    ),
    "KServe V1": KSERVE_V1,
    "KServe V1, with version": Endpoint(
        f"/v1/models/iris/versions/{VERSION}:predict", INPUTS_REQUEST, read_predictions
    ),
    "Vertex AI": VERTEX_AI,
    "SageMaker": SAGEMAKER,
    "MLflow": MLFLOW,
    "MLflow, dataframe_split": Endpoint(
        "/invocations",
        '{"dataframe_split":{"data":$rows}}',
        read_predictions,
        invocations_error,
    ),
    "Azure ML": AZURE_ML,
    "Azure ML, input_data": Endpoint(
        "/score", '{"input_data":{"data":$rows}}', read_array, message_error
    ),
}

PROBE_PATHS = [
    "/ping",
    "/health",
    "/v2/health/live",
    "/v2/health/ready",
    "/v1/endpoints/1/deployedModels/2:predict",
]

every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)


def parametrize_endpoints(*names: str) -> Any:
    endpoints = [ENDPOINTS[name] for name in names]
    return pytest.mark.parametrize("endpoint", endpoints, ids=names)


def assert_error(response: Any, endpoint: Endpoint, status: int, pattern: str) -> None:
    """Check status, media type and error body; its text is short and matches `pattern`."""
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    text = next(iter(response.json.values()))
    assert response.json == endpoint.error_body(text, status)
    assert re.search(pattern, text), text
    assert len(text) < 400
