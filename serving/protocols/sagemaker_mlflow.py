"""SageMaker and MLflow: invocations in four formats, health, version, Batch Transform limits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from serving.api.csv_rows import decode_csv, encode_csv
from serving.api.decoders import TabularDecoder
from serving.api.messages import (
    CSV,
    JSON,
    JSON_LINES,
    NPY,
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
from serving.api.npy_rows import decode_npy, encode_npy
from serving.api.operations import describe
from serving.api.service import current_service
from serving.model.arrays import Rows
from serving.protocols.protocol import Protocol

SAGEMAKER = "SageMaker"
MLFLOW = "MLflow"
INVOCATIONS_DECODER = partial(
    TabularDecoder,
    name="InvocationsRequest",
    members=("dataframe_split", "dataframe_records", "instances", "inputs"),
    allow_bare_rows=True,
    ignore_extra_columns=True,
    accept_lines=True,
)
INVOCATIONS_MIMETYPES = (JSON, CSV, JSON_LINES, NPY)
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
    media_types=INVOCATIONS_MIMETYPES,
    error_statuses=(406,),
)
def invocations() -> Response:
    """Predict for rows in JSON, CSV, JSON lines or an array of numpy."""
    body = read_body(CSV, JSON_LINES, NPY)
    mimetype = negotiate_response()
    rows, in_object = decode_invocation(body)

    predictions = predict_and_record(rows, "$").tolist()

    if mimetype != JSON:
        content = ENCODERS[mimetype](predictions)
        return Response(content, content_type=mimetype, headers=version_header())
    if in_object:
        return versioned_json_response({"predictions": predictions})
    return versioned_json_response(predictions)


def negotiate_response() -> str:
    """Return the media type of the response, that of the request unless Accept prefers another."""
    mimetypes = list(INVOCATIONS_MIMETYPES)
    if request.mimetype in mimetypes:
        mimetypes.remove(request.mimetype)
        mimetypes.insert(0, request.mimetype)
    return negotiate_mimetype(*mimetypes)


def decode_invocation(body: bytes) -> tuple[Rows, bool]:
    """Return the rows, of shape (rows, features), and whether MLflow's form contained them.

    That is an object, or CSV with a header. Raises InvalidInput.
    """
    decoder = current_service().decoder(INVOCATIONS_DECODER)
    if request.mimetype == CSV:
        header = request.mimetype_params.get("header")
        return decode_csv(decoder.row_decoder, body, header)
    if request.mimetype == JSON_LINES:
        return decoder.decode_lines(body), False
    if request.mimetype == NPY:
        return decode_npy(decoder.row_decoder, body), False

    rows, invocation = decoder.decode(body)
    return rows, not isinstance(invocation, list)


def encode_predictions_csv(predictions: list[Any]) -> str:
    """Return one line for each prediction, which has a field for each output of the model."""
    lines = []
    for prediction in predictions:
        lines.append(prediction if isinstance(prediction, list) else [prediction])
    return encode_csv(lines)


ENCODERS: dict[str, Callable[[list[Any]], str | bytes]] = {
    CSV: encode_predictions_csv,
    JSON_LINES: msgspec.json.Encoder().encode_lines,
    NPY: encode_npy,
}


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

    return json_response(
        ExecutionParametersResponse(
            max_concurrent_transforms=service.telemetry.n_workers,
            batch_strategy=strategy,
            max_payload_in_mb=max(max_body_bytes // MEGABYTE, 1),
        )
    )
