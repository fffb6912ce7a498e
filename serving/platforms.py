"""The routes of the platforms that the image runs on: each asks and is answered as it is used to."""

import csv
import io
from typing import Any

import numpy as np
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import NotFound, RequestHeaderFieldsTooLarge
from werkzeug.routing import BaseConverter

from serving import __version__
from serving.contracts import Rows, Tabular
from serving.model import Model
from serving.oip import Infer
from serving.telemetry import PID, current
from serving.wire import CSV, JSON, accepted, answer, answered, body, check_ready, scored, served

VERTEX = "/v1/endpoints/<endpoint>/deployedModels/<deployed_model>:predict"  # where AIP_..._ROUTE is not set
PROBES = {"/healthz", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready", VERTEX}
BINARY = "application/octet-stream"

platforms = Blueprint("platforms", __name__)


class Name(BaseConverter):
    """A name in a path, up to the colon of a verb: another method than that verb's is 405."""

    regex = "[^/:]+"


class Contracts:
    """The platforms' contracts for one model."""

    def __init__(self, model: Model, rows: Rows) -> None:
        self.name = model.card.name if model.card else "model"
        self.rows = rows
        self.infer = Infer(model)
        self.instances = Tabular(rows, "InstancesRequest", ("instances", "inputs"))
        frames = ("dataframe_split", "dataframe_records", "instances", "inputs")
        self.invocations = Tabular(rows, "InvocationsRequest", frames, bare=True)
        self.score = Tabular(rows, "ScoreRequest", ("data", "input_data"))


def contracts() -> Contracts:
    """Return those of the model that is served."""
    found: Contracts = current_app.extensions["contracts"]
    return found


def check_names(names: dict[str, str]) -> None:
    """Raise NotFound for another model or version than the one that is served; other names are the platform's own."""
    there = {"model": contracts().name, "version": served().version}
    if any(names[name] != there[name] for name in there.keys() & names.keys()):
        raise NotFound


def failure(path: str, status: int, text: str) -> dict[str, str]:
    """Return the body of an error, in the shape of the contract whose path it is."""
    if path == "/score":
        return {"message": text}
    if path == "/invocations":
        return {"error": text, "error_code": "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST", "message": text}
    return {"error": text}


# Open Inference Protocol V2: KServe, Triton's clients.


@platforms.get("/v2", strict_slashes=False)
def server() -> Response:
    """Describe the server (Open Inference V2)."""
    return answer({"name": "flask-ml-model", "version": __version__, "extensions": ["binary_tensor_data"]})


@platforms.get("/v2/health/live")
def live() -> Response:
    """Say that the process answers (Open Inference V2)."""
    return answer({"live": True})


@platforms.get("/v2/health/ready")
def ready() -> Response:
    """Say whether the model answers as its card says (Open Inference V2)."""
    check_ready()
    return answered({"live": True, "ready": True})  # the specification prints the one, KServe's client reads the other


@platforms.get("/v2/models/<model>")
@platforms.get("/v2/models/<model>/versions/<version>")
def metadata(**names: str) -> Response:
    """Describe the model's inputs and outputs (Open Inference V2)."""
    check_names(names)
    described = {"name": contracts().name, "versions": [served().version], "platform": "sklearn_joblib"}
    return answered(described | {"inputs": contracts().infer.inputs, "outputs": contracts().infer.outputs})


@platforms.get("/v2/models/<model>/ready")
@platforms.get("/v2/models/<model>/versions/<version>/ready")
def model_ready(**names: str) -> Response:
    """Say whether this model answers as its card says (Open Inference V2)."""
    check_names(names)
    check_ready()
    return answered({"name": contracts().name, "ready": True})


@platforms.post("/v2/models/<model>/infer")
@platforms.post("/v2/models/<model>/versions/<version>/infer")
def infer(**names: str) -> Response:
    """Score tensors, in JSON or binary (Open Inference V2)."""
    check_names(names)
    accepted(JSON, BINARY)
    known = contracts()
    rows, asked = known.infer.decode(body(BINARY, ""), current().environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH"))
    content, length = known.infer.encode(asked, rows, scored(rows, "$.inputs"), known.name)
    headers = {"X-Model-Version": known.infer.model.version}
    response = Response(content, content_type=BINARY if length else JSON, headers=headers)
    if length:
        response.headers["Inference-Header-Content-Length"] = str(length)
    return response


# KServe V1, TensorFlow Serving, Vertex AI.


@platforms.get("/v1/models")
def models() -> Response:
    """Name the model (KServe V1)."""
    return answer({"models": [contracts().name]})


@platforms.get("/v1/models/<model>")
def status(**names: str) -> Response:
    """Say whether this model answers as its card says (KServe V1, TensorFlow Serving)."""
    check_names(names)
    check_ready()
    state = {"version": served().version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return answered({"name": contracts().name, "ready": True, "model_version_status": [state]})


@platforms.post(VERTEX)
@platforms.post("/v1/models/<model>:predict")
@platforms.post("/v1/models/<model>/versions/<version>:predict")
def instances(**names: str) -> Response:
    """Score instances (KServe V1, TensorFlow Serving, Vertex AI)."""
    check_names(names)
    accepted(JSON)
    rows, _ = contracts().instances.decode(body())
    return answered({"predictions": scored(rows, "$").tolist()})


# MLflow, SageMaker, Azure ML.


@platforms.get(VERTEX)
@platforms.get("/ping")
@platforms.get("/health")
def ping(**_: str) -> Response:
    """Say whether the model answers as its card says (SageMaker, MLflow, Vertex AI)."""
    check_ready()
    return Response("\n", mimetype="text/plain")


@platforms.get("/version")
def version() -> Response:
    """Return the model's version as text (MLflow)."""
    return Response(served().version, mimetype="text/plain")


@platforms.post("/invocations")
def invocations() -> Response:
    """Score JSON or CSV (SageMaker, MLflow)."""
    data = body(CSV)
    if request.mimetype == CSV:
        mimetype = accepted(CSV, JSON)
        rows, wrapped = contracts().rows.from_csv(data)
    else:
        mimetype = accepted(JSON, CSV)
        rows, wrapped = contracts().invocations.decode(data)
    prediction = scored(rows, "$").tolist()
    if mimetype == JSON:
        return answered({"predictions": prediction} if wrapped else prediction)
    text = io.StringIO()
    lines: Any = (value if isinstance(value, list) else [value] for value in prediction)
    csv.writer(text, lineterminator="\n").writerows(lines)
    return Response(text.getvalue(), mimetype=CSV, headers={"X-Model-Version": served().version})


@platforms.get("/execution-parameters")
def execution_parameters() -> Response:
    """Say how a Batch Transform is best cut up (SageMaker)."""
    limit, rows = current_app.config["MAX_BODY_BYTES"], current_app.config["MAX_ROWS"]
    # A payload of megabytes may hold more rows than are taken: the shortest are a digit and a comma for each feature.
    strategy = "MULTI_RECORD" if rows * 2 * served().n_features >= limit else "SINGLE_RECORD"
    workers = np.count_nonzero(current_app.extensions["telemetry"].table[1:, PID])
    megabytes = max(limit // 2**20, 1)
    return answer(
        {"MaxConcurrentTransforms": max(int(workers), 1), "BatchStrategy": strategy, "MaxPayloadInMB": megabytes}
    )


@platforms.post("/score")
def score() -> Response:
    """Score rows (Azure ML)."""
    if len(request.headers.get("X-Request-ID", "")) > 100:
        raise RequestHeaderFieldsTooLarge("Expected an X-Request-ID of at most 100 characters")
    accepted(JSON)
    rows, _ = contracts().score.decode(body())
    return answered(scored(rows, "$").tolist())
