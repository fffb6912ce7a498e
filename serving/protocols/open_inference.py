"""Open Inference Protocol V2: KServe, and NVIDIA Triton's clients."""

from flask import Blueprint, Response

from serving import __version__
from serving.api.http import (
    JSON,
    check_ready,
    json_response,
    negotiate_mimetype,
    predict_and_record,
    read_body,
    versioned_json_response,
)
from serving.api.schemas import RowDecoder
from serving.model.model import Model
from serving.monitoring.telemetry import current_request
from serving.protocols.decoders import current_decoder
from serving.protocols.model_path import check_model_and_version
from serving.protocols.open_inference_codec import InferCodec
from serving.protocols.protocol import Protocol

OCTET_STREAM = "application/octet-stream"
NO_CONTENT_TYPE = ""  # Triton's client sends none

blueprint = Blueprint("open_inference", __name__)
protocol = Protocol(
    "Open Inference V2", blueprint, probe_rules=frozenset({"/v2/health/live", "/v2/health/ready"})
)


def build_infer_codec(model: Model, _rows: RowDecoder) -> InferCodec:
    """Return the codec of inference requests and responses for `model`."""
    return InferCodec(model)


@blueprint.get("/v2", strict_slashes=False)
def server_metadata() -> Response:
    """Server metadata"""
    return json_response(
        {
            "name": "flask-ml-model",
            "version": __version__,
            "extensions": ["binary_tensor_data"],
        }
    )


@blueprint.get("/v2/health/live")
def server_live() -> Response:
    """Liveness probe"""
    return json_response({"live": True})


@blueprint.get("/v2/health/ready")
def server_ready() -> Response:
    """Readiness probe (runs the self-test)"""
    check_ready()
    # The specification prints `live` here, and KServe's client reads `ready`.
    return versioned_json_response({"live": True, "ready": True})


@blueprint.get("/v2/models/<model>")
@blueprint.get("/v2/models/<model>/versions/<version>")
def model_metadata(model: str, version: str | None = None) -> Response:
    """Model metadata: inputs and outputs"""
    check_model_and_version(model, version)
    codec = current_decoder(build_infer_codec)
    return versioned_json_response(
        {
            "name": model,
            "versions": [codec.model.version],
            "platform": "sklearn_joblib",
            "inputs": codec.inputs,
            "outputs": codec.outputs,
        }
    )


@blueprint.get("/v2/models/<model>/ready")
@blueprint.get("/v2/models/<model>/versions/<version>/ready")
def model_ready(model: str, version: str | None = None) -> Response:
    """Model readiness (runs the self-test)"""
    check_model_and_version(model, version)
    check_ready()
    return versioned_json_response({"name": model, "ready": True})


@blueprint.post("/v2/models/<model>/infer")
@blueprint.post("/v2/models/<model>/versions/<version>/infer")
def model_infer(model: str, version: str | None = None) -> Response:
    """Run inference on JSON or binary tensors"""
    check_model_and_version(model, version)
    negotiate_mimetype(JSON, OCTET_STREAM)
    codec = current_decoder(build_infer_codec)

    body = read_body(OCTET_STREAM, NO_CONTENT_TYPE)
    json_length = current_request().environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    rows, infer_request = codec.decode(body, json_length)

    prediction = predict_and_record(rows, "$.inputs")

    content, response_json_length = codec.encode(infer_request, rows, prediction, model)
    headers = {"X-Model-Version": codec.model.version}
    if response_json_length is None:
        return Response(content, content_type=JSON, headers=headers)
    headers["Inference-Header-Content-Length"] = str(response_json_length)
    return Response(content, content_type=OCTET_STREAM, headers=headers)
