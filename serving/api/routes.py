"""The routes of our own API."""

from typing import Any

from flask import Blueprint, Response, request
from msgspec import UNSET, UnsetType

from serving.api.decoders import PredictDecoder
from serving.api.feedback import FeedbackDecoder
from serving.api.messages import (
    TEXT,
    Predictions,
    ResponseBody,
    check_ready,
    check_row_limit,
    json_response,
    read_body,
    versioned_json_response,
)
from serving.api.operations import describe
from serving.api.service import current_service

blueprint = Blueprint("api", __name__)


class PredictResponse(ResponseBody):
    """The predictions, and what `outputs` requested."""

    prediction: Predictions
    label: list[str] | UnsetType = UNSET
    probability: list[list[float]] | UnsetType = UNSET


@blueprint.post("/predict")
@describe("Model", decoder=PredictDecoder, response=PredictResponse)
def predict() -> Response:
    """Predict for one or more rows, as arrays or by feature name."""
    service = current_service()
    model = service.model
    rows, outputs = service.decoder(PredictDecoder).decode(read_body())

    check_row_limit(len(rows), "$.features")
    predictions = model.predict(rows)
    service.telemetry.record_predictions(rows, predictions)

    prediction = predictions.tolist()
    response = PredictResponse(prediction)
    if "label" in outputs:
        response.label = [model.labels[value] for value in prediction]
    if "probability" in outputs:
        response.probability = model.probabilities(rows).tolist()
    return versioned_json_response(response)


class FeedbackResponse(ResponseBody):
    """The number of rows that were counted."""

    counted: int


@blueprint.post("/feedback")
@describe("Model", decoder=FeedbackDecoder, response=FeedbackResponse)
def feedback() -> Response:
    """Record predictions with their true values."""
    service = current_service()
    prediction, actual = service.decoder(FeedbackDecoder).decode(read_body())
    check_row_limit(len(actual), "$.actual")

    service.telemetry.record_feedback(prediction, actual)
    return json_response(FeedbackResponse(len(actual)))


class LivenessResponse(ResponseBody):
    """The process answers."""

    status: str


@blueprint.get("/healthz")
@describe("Service", response=LivenessResponse)
def healthz() -> Response:
    """Liveness probe."""
    return json_response(LivenessResponse("alive"))


class ReadinessResponse(ResponseBody):
    """The model passed its self-test; `reload` is why a newer model file is not served."""

    status: str
    reload: str | UnsetType = UNSET


@blueprint.get("/readyz")
@describe("Service", response=ReadinessResponse, error_statuses=(503,))
def readyz() -> Response:
    """Readiness probe (runs the self-test)."""
    check_ready()

    response = ReadinessResponse("ready")
    # After a failed reload the service is still ready: it serves the model that it served before.
    reload_error = current_service().telemetry.reload_error
    if reload_error:
        response.reload = reload_error
    return versioned_json_response(response)


@blueprint.get("/metrics")
@describe("Monitoring", media_types=(TEXT,))
def metrics() -> Response:
    """Metrics of all workers, for Prometheus."""
    accept = request.headers.get("Accept", "")
    text, content_type = current_service().metrics.render(accept)
    return Response(text, content_type=content_type)


@blueprint.get("/drift")
@describe("Monitoring", response=dict[str, Any])
def drift() -> Response:
    """Drift report for the last hour."""
    return json_response(current_service().telemetry.drift_report())
