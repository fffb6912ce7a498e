"""KServe V1, TensorFlow Serving and Vertex AI: instances in, predictions out."""

from functools import partial
from typing import Any

from flask import Blueprint, Response

from serving.api.decoders import TabularDecoder
from serving.api.messages import (
    JSON,
    TEXT,
    Predictions,
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
from serving.protocols.names import check_model_and_version
from serving.protocols.protocol import ConfiguredRoute, Protocol

KSERVE = "KServe V1"
VERTEX_AI = "Vertex AI"
INSTANCES_DECODER = partial(
    TabularDecoder, name="InstancesRequest", members=("instances", "inputs")
)
# The path for health and predictions if AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE are not set.
VERTEX_AI_PREDICT_RULE = "/v1/endpoints/<endpoint>/deployedModels/<deployed_model>:predict"
VERTEX_AI_IDS = {"endpoint": "1", "deployed_model": "2"}  # examples: any id is accepted

blueprint = Blueprint("kserve_v1", __name__)


class ModelListResponse(ResponseBody):
    """The names of the served models."""

    models: list[str]


@blueprint.get("/v1/models")
@describe(KSERVE, response=ModelListResponse)
def list_models() -> Response:
    """Names of the served models."""
    return json_response(ModelListResponse([current_service().model_name]))


class ModelStatusResponse(ResponseBody):
    """The state of the model: `ready` for KServe, the rest for TensorFlow Serving."""

    name: str
    ready: bool
    model_version_status: list[dict[str, Any]]


@blueprint.get("/v1/models/<model>")
@describe(KSERVE, response=ModelStatusResponse, error_statuses=(503,))
def model_status(model: str) -> Response:
    """Model status (runs the self-test)."""
    check_model_and_version(model)
    check_ready()
    version_status = {
        "version": current_service().model.version,
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return versioned_json_response(ModelStatusResponse(model, True, [version_status]))


class InstancesResponse(ResponseBody):
    """The predictions for all instances."""

    predictions: Predictions


@blueprint.post("/v1/models/<model>:predict")
@blueprint.post("/v1/models/<model>/versions/<version>:predict")
@describe(KSERVE, decoder=INSTANCES_DECODER, response=InstancesResponse, error_statuses=(406,))
def predict_instances(model: str, version: str | None = None) -> Response:
    """Predict for instances, as arrays or by feature name."""
    check_model_and_version(model, version)
    return predict_for_body()


@blueprint.post(VERTEX_AI_PREDICT_RULE)
@describe(
    VERTEX_AI,
    decoder=INSTANCES_DECODER,
    response=InstancesResponse,
    error_statuses=(406,),
    path_examples=VERTEX_AI_IDS,
)
def vertex_ai_predict(**_platform_ids: str) -> Response:
    """Predict for instances, as arrays or by feature name."""
    return predict_for_body()


@blueprint.get(VERTEX_AI_PREDICT_RULE)
@describe(VERTEX_AI, media_types=(TEXT,), error_statuses=(503,), path_examples=VERTEX_AI_IDS)
def vertex_ai_readiness(**_platform_ids: str) -> Response:
    """Readiness probe (runs the self-test)."""
    check_ready()
    return Response("\n", mimetype=TEXT)


def predict_for_body() -> Response:
    """Return the predictions for the rows in the body of the request."""
    negotiate_mimetype(JSON)
    rows, _ = current_service().decoder(INSTANCES_DECODER).decode(read_body())
    predictions = predict_and_record(rows, "$").tolist()
    return versioned_json_response(InstancesResponse(predictions))


protocol = Protocol(
    blueprint,
    probe_paths=frozenset({"/v1/models/<model>", VERTEX_AI_PREDICT_RULE}),
    configured_routes=(
        ConfiguredRoute("aip_health_route", "GET", vertex_ai_readiness),
        ConfiguredRoute("aip_predict_route", "POST", vertex_ai_predict),
    ),
)
