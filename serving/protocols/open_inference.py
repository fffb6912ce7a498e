"""Open Inference Protocol V2: KServe, and NVIDIA Triton's clients."""

from flask import Blueprint, Response

from serving import __version__
from serving.api.messages import (
    JSON,
    ResponseBody,
    check_ready,
    json_response,
    negotiate_mimetype,
    predict_and_record,
    read_body,
    versioned_json_response,
)
from serving.api.operations import describe
from serving.api.service import current_service
from serving.monitoring.request_log import current_request
from serving.protocols.names import check_model_and_version
from serving.protocols.open_inference_codec import OCTET_STREAM, InferCodec, InferResponse
from serving.protocols.open_inference_tensors import TensorMetadata
from serving.protocols.protocol import Protocol

TAG = "Open Inference V2"
NO_CONTENT_TYPE = ""  # Triton's client sends none

blueprint = Blueprint("open_inference", __name__)
protocol = Protocol(
    blueprint,
    probe_paths=frozenset(
        {
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/<model>/ready",
            "/v2/models/<model>/versions/<version>/ready",
        }
    ),
)


class ServerMetadataResponse(ResponseBody):
    """The server and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: list[str]


@blueprint.get("/v2", strict_slashes=False)
@describe(TAG, response=ServerMetadataResponse)
def server_metadata() -> Response:
    """Server metadata."""
    extensions = ["binary_tensor_data"]
    return json_response(ServerMetadataResponse("flask-ml-model", __version__, extensions))


class ServerLiveResponse(ResponseBody):
    """The process answers."""

    live: bool


@blueprint.get("/v2/health/live")
@describe(TAG, response=ServerLiveResponse)
def server_live() -> Response:
    """Liveness probe."""
    return json_response(ServerLiveResponse(True))


class ServerReadyResponse(ResponseBody):
    """The model passed its self-test.

    The specification's text has the member `live` here; KServe's client reads `ready`.
    """

    live: bool
    ready: bool


@blueprint.get("/v2/health/ready")
@describe(TAG, response=ServerReadyResponse, error_statuses=(503,))
def server_ready() -> Response:
    """Readiness probe (runs the self-test)."""
    check_ready()
    return versioned_json_response(ServerReadyResponse(True, True))


class ModelMetadataResponse(ResponseBody):
    """The model and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


@blueprint.get("/v2/models/<model>")
@blueprint.get("/v2/models/<model>/versions/<version>")
@describe(TAG, response=ModelMetadataResponse)
def model_metadata(model: str, version: str | None = None) -> Response:
    """Model metadata: inputs and outputs."""
    check_model_and_version(model, version)
    codec = current_service().decoder(InferCodec)
    return versioned_json_response(
        ModelMetadataResponse(
            name=model,
            versions=[codec.model.version],
            platform="sklearn_joblib",
            inputs=codec.inputs,
            outputs=codec.outputs,
        )
    )


class ModelReadyResponse(ResponseBody):
    """The model passed its self-test."""

    name: str
    ready: bool


@blueprint.get("/v2/models/<model>/ready")
@blueprint.get("/v2/models/<model>/versions/<version>/ready")
@describe(TAG, response=ModelReadyResponse, error_statuses=(503,))
def model_ready(model: str, version: str | None = None) -> Response:
    """Model readiness (runs the self-test)."""
    check_model_and_version(model, version)
    check_ready()
    return versioned_json_response(ModelReadyResponse(model, True))


@blueprint.post("/v2/models/<model>/infer")
@blueprint.post("/v2/models/<model>/versions/<version>/infer")
@describe(
    TAG,
    decoder=InferCodec,
    response=InferResponse,
    media_types=(JSON, OCTET_STREAM),
    error_statuses=(406,),
)
def model_infer(model: str, version: str | None = None) -> Response:
    """Run inference on JSON or binary tensors."""
    check_model_and_version(model, version)
    negotiate_mimetype(JSON, OCTET_STREAM)
    codec = current_service().decoder(InferCodec)

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
