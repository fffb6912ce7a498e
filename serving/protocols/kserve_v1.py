"""KServe V1, TensorFlow Serving and Vertex AI: instances in, predictions out."""

from flask import Blueprint, Response

from serving.api.http import (
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
from serving.protocols.decoders import current_decoder
from serving.protocols.model_path import check_model_and_version, model_name
from serving.protocols.protocol import ConfiguredRoute, Protocol

INSTANCES_MEMBERS = ("instances", "inputs")
# The path for health and predictions if AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE are not set.
VERTEX_AI_PREDICT_RULE = "/v1/endpoints/<endpoint>/deployedModels/<deployed_model>:predict"

blueprint = Blueprint("kserve_v1", __name__)


@blueprint.get("/v1/models")
def list_models() -> Response:
    """Names of the served models"""
    return json_response({"models": [model_name(current_model())]})


@blueprint.get("/v1/models/<model>")
def model_status(model: str) -> Response:
    """Model status (runs the self-test)"""
    check_model_and_version(model)
    check_ready()
    version_status = {
        "version": current_model().version,
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return versioned_json_response(
        {"name": model, "ready": True, "model_version_status": [version_status]}
    )


@blueprint.post("/v1/models/<model>:predict")
@blueprint.post("/v1/models/<model>/versions/<version>:predict")
def predict_instances(model: str, version: str | None = None) -> Response:
    """Predict for instances, as arrays or by feature name"""
    check_model_and_version(model, version)
    return predict_for_body()


@blueprint.post(VERTEX_AI_PREDICT_RULE)
def vertex_ai_predict(**_platform_ids: str) -> Response:
    """Predict for instances, as arrays or by feature name"""
    return predict_for_body()


@blueprint.get(VERTEX_AI_PREDICT_RULE)
def vertex_ai_readiness(**_platform_ids: str) -> Response:
    """Readiness probe (runs the self-test)"""
    check_ready()
    return Response("\n", mimetype="text/plain")


def build_instances_decoder(_model: Model, rows: RowDecoder) -> TabularDecoder:
    """Return the decoder of a request with instances."""
    return TabularDecoder(rows, "InstancesRequest", INSTANCES_MEMBERS)


def predict_for_body() -> Response:
    """Return the predictions for the rows in the body of the request."""
    negotiate_mimetype(JSON)
    rows, _ = current_decoder(build_instances_decoder).decode(read_body())
    predictions = predict_and_record(rows, "$").tolist()
    return versioned_json_response({"predictions": predictions})


protocol = Protocol(
    "KServe V1",
    blueprint,
    probe_rules=frozenset({VERTEX_AI_PREDICT_RULE}),
    configured_routes=(
        ConfiguredRoute("AIP_HEALTH_ROUTE", "GET", vertex_ai_readiness),
        ConfiguredRoute("AIP_PREDICT_ROUTE", "POST", vertex_ai_predict),
    ),
)
