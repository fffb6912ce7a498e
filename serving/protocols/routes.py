"""The routes of the platforms that the image runs on: each asks and is answered as it is used to."""

import csv
import io
from typing import Any

import numpy as np
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import NotFound, RequestHeaderFieldsTooLarge
from werkzeug.routing import BaseConverter

from serving import __version__
from serving.api.http import (
    CSV,
    JSON,
    check_ready,
    current_model,
    json_response,
    negotiate_mimetype,
    predict_and_record,
    read_body,
    versioned_json_response,
)
from serving.api.schemas import RowDecoder, TabularDecoder
from serving.model.model import Model
from serving.monitoring.telemetry import PID_COLUMN, current_request
from serving.protocols.open_inference_codec import InferCodec

VERTEX_AI_PREDICT_RULE = "/v1/endpoints/<endpoint>/deployedModels/<deployed_model>:predict"  # where AIP_..._ROUTE is not set
PROBE_PATHS = {
    "/healthz",
    "/readyz",
    "/ping",
    "/health",
    "/v2/health/live",
    "/v2/health/ready",
    VERTEX_AI_PREDICT_RULE,
}
OCTET_STREAM = "application/octet-stream"

protocols_blueprint = Blueprint("platforms", __name__)


class NameConverter(BaseConverter):
    """A name in a path, up to the colon of a verb: another method than that verb's is 405."""

    regex = "[^/:]+"


class ProtocolDecoders:
    """The platforms' contracts for one model."""

    def __init__(self, model: Model, rows: RowDecoder) -> None:
        self.name = model.card.name if model.card else "model"
        self.rows = rows
        self.infer = InferCodec(model)
        self.instances = TabularDecoder(rows, "InstancesRequest", ("instances", "inputs"))
        frames = ("dataframe_split", "dataframe_records", "instances", "inputs")
        self.invocations = TabularDecoder(rows, "InvocationsRequest", frames, bare=True)
        self.score = TabularDecoder(rows, "ScoreRequest", ("data", "input_data"))


def current_decoders() -> ProtocolDecoders:
    """Return those of the model that is served."""
    found: ProtocolDecoders = current_app.extensions["contracts"]
    return found


def check_model_and_version(names: dict[str, str]) -> None:
    """Raise NotFound for another model or version than the one that is served; other names are the platform's own."""
    there = {"model": current_decoders().name, "version": current_model().version}
    if any(names[name] != there[name] for name in there.keys() & names.keys()):
        raise NotFound


def error_body(path: str, status: int, text: str) -> dict[str, str]:
    """Return the body of an error, in the shape of the contract whose path it is."""
    if path == "/score":
        return {"message": text}
    if path == "/invocations":
        return {
            "error": text,
            "error_code": "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST",
            "message": text,
        }
    return {"error": text}


# Open Inference Protocol V2: KServe, Triton's clients.


@protocols_blueprint.get("/v2", strict_slashes=False)
def server() -> Response:
    """Describe the server (Open Inference V2)."""
    return json_response(
        {"name": "flask-ml-model", "version": __version__, "extensions": ["binary_tensor_data"]}
    )


@protocols_blueprint.get("/v2/health/live")
def live() -> Response:
    """Say that the process answers (Open Inference V2)."""
    return json_response({"live": True})


@protocols_blueprint.get("/v2/health/ready")
def ready() -> Response:
    """Say whether the model answers as its card says (Open Inference V2)."""
    check_ready()
    return versioned_json_response(
        {"live": True, "ready": True}
    )  # the specification prints the one, KServe's client reads the other


@protocols_blueprint.get("/v2/models/<model>")
@protocols_blueprint.get("/v2/models/<model>/versions/<version>")
def metadata(**names: str) -> Response:
    """Describe the model's inputs and outputs (Open Inference V2)."""
    check_model_and_version(names)
    described = {
        "name": current_decoders().name,
        "versions": [current_model().version],
        "platform": "sklearn_joblib",
    }
    return versioned_json_response(
        described
        | {"inputs": current_decoders().infer.inputs, "outputs": current_decoders().infer.outputs}
    )


@protocols_blueprint.get("/v2/models/<model>/ready")
@protocols_blueprint.get("/v2/models/<model>/versions/<version>/ready")
def model_ready(**names: str) -> Response:
    """Say whether this model answers as its card says (Open Inference V2)."""
    check_model_and_version(names)
    check_ready()
    return versioned_json_response({"name": current_decoders().name, "ready": True})


@protocols_blueprint.post("/v2/models/<model>/infer")
@protocols_blueprint.post("/v2/models/<model>/versions/<version>/infer")
def infer(**names: str) -> Response:
    """Score tensors, in JSON or binary (Open Inference V2)."""
    check_model_and_version(names)
    negotiate_mimetype(JSON, OCTET_STREAM)
    known = current_decoders()
    rows, asked = known.infer.decode(
        read_body(OCTET_STREAM, ""),
        current_request().environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH"),
    )
    content, length = known.infer.encode(
        asked, rows, predict_and_record(rows, "$.inputs"), known.name
    )
    headers = {"X-Model-Version": known.infer.model.version}
    response = Response(content, content_type=OCTET_STREAM if length else JSON, headers=headers)
    if length:
        response.headers["Inference-Header-Content-Length"] = str(length)
    return response


# KServe V1, TensorFlow Serving, Vertex AI.


@protocols_blueprint.get("/v1/models")
def models() -> Response:
    """Name the model (KServe V1)."""
    return json_response({"models": [current_decoders().name]})


@protocols_blueprint.get("/v1/models/<model>")
def status(**names: str) -> Response:
    """Say whether this model answers as its card says (KServe V1, TensorFlow Serving)."""
    check_model_and_version(names)
    check_ready()
    state = {
        "version": current_model().version,
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return versioned_json_response(
        {"name": current_decoders().name, "ready": True, "model_version_status": [state]}
    )


@protocols_blueprint.post(VERTEX_AI_PREDICT_RULE)
@protocols_blueprint.post("/v1/models/<model>:predict")
@protocols_blueprint.post("/v1/models/<model>/versions/<version>:predict")
def instances(**names: str) -> Response:
    """Score instances (KServe V1, TensorFlow Serving, Vertex AI)."""
    check_model_and_version(names)
    negotiate_mimetype(JSON)
    rows, _ = current_decoders().instances.decode(read_body())
    return versioned_json_response({"predictions": predict_and_record(rows, "$").tolist()})


# MLflow, SageMaker, Azure ML.


@protocols_blueprint.get(VERTEX_AI_PREDICT_RULE)
@protocols_blueprint.get("/ping")
@protocols_blueprint.get("/health")
def ping(**_: str) -> Response:
    """Say whether the model answers as its card says (SageMaker, MLflow, Vertex AI)."""
    check_ready()
    return Response("\n", mimetype="text/plain")


@protocols_blueprint.get("/version")
def version() -> Response:
    """Return the model's version as text (MLflow)."""
    return Response(current_model().version, mimetype="text/plain")


@protocols_blueprint.post("/invocations")
def invocations() -> Response:
    """Score JSON or CSV (SageMaker, MLflow)."""
    data = read_body(CSV)
    if request.mimetype == CSV:
        mimetype = negotiate_mimetype(CSV, JSON)
        rows, wrapped = current_decoders().rows.parse_csv(data)
    else:
        mimetype = negotiate_mimetype(JSON, CSV)
        rows, wrapped = current_decoders().invocations.decode(data)
    prediction = predict_and_record(rows, "$").tolist()
    if mimetype == JSON:
        return versioned_json_response({"predictions": prediction} if wrapped else prediction)
    text = io.StringIO()
    lines: Any = (value if isinstance(value, list) else [value] for value in prediction)
    csv.writer(text, lineterminator="\n").writerows(lines)
    return Response(
        text.getvalue(), mimetype=CSV, headers={"X-Model-Version": current_model().version}
    )


@protocols_blueprint.get("/execution-parameters")
def execution_parameters() -> Response:
    """Say how a Batch Transform is best cut up (SageMaker)."""
    limit, rows = current_app.config["MAX_BODY_BYTES"], current_app.config["MAX_ROWS"]
    # A payload of megabytes may hold more rows than are taken: the shortest are a digit and a comma for each feature.
    strategy = "MULTI_RECORD" if rows * 2 * current_model().n_features >= limit else "SINGLE_RECORD"
    workers = np.count_nonzero(current_app.extensions["telemetry"].http_counters[1:, PID_COLUMN])
    megabytes = max(limit // 2**20, 1)
    return json_response(
        {
            "MaxConcurrentTransforms": max(int(workers), 1),
            "BatchStrategy": strategy,
            "MaxPayloadInMB": megabytes,
        }
    )


@protocols_blueprint.post("/score")
def score() -> Response:
    """Score rows (Azure ML)."""
    if len(request.headers.get("X-Request-ID", "")) > 100:
        raise RequestHeaderFieldsTooLarge("Expected an X-Request-ID of at most 100 characters")
    negotiate_mimetype(JSON)
    rows, _ = current_decoders().score.decode(read_body())
    return versioned_json_response(predict_and_record(rows, "$").tolist())
