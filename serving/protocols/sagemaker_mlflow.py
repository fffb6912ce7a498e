"""SageMaker and MLflow: invocations in JSON or CSV, health, version, Batch Transform limits."""

from functools import partial
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from serving.api.csv_rows import decode_csv, encode_csv
from serving.api.decoders import TabularDecoder
from serving.api.messages import (
    CSV,
    JSON,
    TEXT,
    Predictions,
    ResponseBody,
    check_ready,
    json_response,
    negotiate_mimetype,
    predict_and_record,
    read_body,
    version_header,
    versioned_json_response,
)
from serving.api.operations import describe
from serving.api.service import current_service
from serving.protocols.protocol import Protocol

SAGEMAKER = "SageMaker"
MLFLOW = "MLflow"
INVOCATIONS_DECODER = partial(
    TabularDecoder,
    name="InvocationsRequest",
    members=("dataframe_split", "dataframe_records", "instances", "inputs"),
    allow_bare_rows=True,
    accept_csv=True,
)
MEGABYTE = 2**20
MIN_BYTES_PER_VALUE = 2  # a digit and a comma

blueprint = Blueprint("sagemaker_mlflow", __name__)


def invocations_error_body(status: int, text: str) -> dict[str, str]:
    """Return the error body that MLflow's client reads."""
    error_code = "BAD_REQUEST"
    if status >= 500:
        error_code = "INTERNAL_ERROR"
    return {"error": text, "error_code": error_code, "message": text}


protocol = Protocol(
    blueprint,
    probe_paths=frozenset({"/ping", "/health"}),
    error_bodies={"/invocations": invocations_error_body},
)


@blueprint.get("/ping")
@blueprint.get("/health")
@describe(SAGEMAKER, media_types=(TEXT,), error_statuses=(503,))
def readiness() -> Response:
    """Readiness probe (runs the self-test)."""
    check_ready()
    return Response("\n", mimetype=TEXT)


@blueprint.get("/version")
@describe(MLFLOW, media_types=(TEXT,))
def model_version() -> Response:
    """Model version as text."""
    return Response(current_service().model.version, mimetype=TEXT)


@blueprint.post("/invocations")
@describe(
    SAGEMAKER,
    decoder=INVOCATIONS_DECODER,
    response=dict[str, Predictions] | Predictions,
    media_types=(JSON, CSV),
    error_statuses=(406,),
)
def invocations() -> Response:
    """Predict for rows in JSON or CSV."""
    decoder = current_service().decoder(INVOCATIONS_DECODER)
    body = read_body(CSV)
    if request.mimetype == CSV:
        mimetype = negotiate_mimetype(CSV, JSON)
        rows, in_object = decode_csv(decoder.row_decoder, body)
    else:
        mimetype = negotiate_mimetype(JSON, CSV)
        rows, in_object = decoder.decode(body)

    predictions = predict_and_record(rows, "$").tolist()

    if mimetype == CSV:
        return csv_response(predictions)
    if in_object:
        return versioned_json_response({"predictions": predictions})
    return versioned_json_response(predictions)


def csv_response(predictions: list[Any]) -> Response:
    """Return one line for each prediction, which has a field for each output of the model."""
    lines = []
    for prediction in predictions:
        lines.append(prediction if isinstance(prediction, list) else [prediction])
    return Response(encode_csv(lines), content_type=CSV, headers=version_header())


class ExecutionParametersResponse(ResponseBody, rename="pascal"):
    """The limits of a Batch Transform."""

    max_concurrent_transforms: int
    batch_strategy: str
    max_payload_in_mb: int = msgspec.field(name="MaxPayloadInMB")


@blueprint.get("/execution-parameters")
@describe(SAGEMAKER, response=ExecutionParametersResponse)
def execution_parameters() -> Response:
    """Batch Transform limits."""
    service = current_service()
    max_body_bytes = service.settings.max_body_bytes

    # A payload of the shortest rows must not exceed MAX_ROWS; otherwise records come one by one.
    min_row_bytes = MIN_BYTES_PER_VALUE * service.model.n_features
    strategy = "SINGLE_RECORD"
    if service.settings.max_rows * min_row_bytes >= max_body_bytes:
        strategy = "MULTI_RECORD"

    n_workers = service.telemetry.worker_count()
    return json_response(
        ExecutionParametersResponse(
            max_concurrent_transforms=max(n_workers, 1),
            batch_strategy=strategy,
            max_payload_in_mb=max(max_body_bytes // MEGABYTE, 1),
        )
    )
