"""SageMaker and MLflow: invocations in JSON or CSV, health, version, Batch Transform limits."""

import csv
import io
from typing import Any

import numpy as np
from flask import Blueprint, Response, current_app, request

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
from serving.monitoring.telemetry import PID_COLUMN
from serving.protocols.decoders import current_decoder
from serving.protocols.protocol import Protocol

INVOCATIONS_MEMBERS = ("dataframe_split", "dataframe_records", "instances", "inputs")
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
    "SageMaker and MLflow",
    blueprint,
    probe_rules=frozenset({"/ping", "/health"}),
    error_bodies={"/invocations": invocations_error_body},
)


@blueprint.get("/ping")
@blueprint.get("/health")
def readiness() -> Response:
    """Readiness probe (runs the self-test)"""
    check_ready()
    return Response("\n", mimetype="text/plain")


@blueprint.get("/version")
def model_version() -> Response:
    """Model version as text"""
    return Response(current_model().version, mimetype="text/plain")


@blueprint.post("/invocations")
def invocations() -> Response:
    """Predict for rows in JSON or CSV"""
    decoder = current_decoder(build_invocations_decoder)
    body = read_body(CSV)
    if request.mimetype == CSV:
        mimetype = negotiate_mimetype(CSV, JSON)
        rows, in_object = decoder.rows.parse_csv(body)
    else:
        mimetype = negotiate_mimetype(JSON, CSV)
        rows, in_object = decoder.decode(body)

    predictions = predict_and_record(rows, "$").tolist()

    if mimetype == CSV:
        return csv_response(predictions)
    if in_object:
        return versioned_json_response({"predictions": predictions})
    return versioned_json_response(predictions)


def build_invocations_decoder(_model: Model, rows: RowDecoder) -> TabularDecoder:
    """Return the decoder of a JSON request for invocations."""
    return TabularDecoder(rows, "InvocationsRequest", INVOCATIONS_MEMBERS, bare=True)


def csv_response(predictions: list[Any]) -> Response:
    """Return one line for each prediction, which has a field for each output of the model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for prediction in predictions:
        fields = prediction if isinstance(prediction, list) else [prediction]
        writer.writerow(fields)

    headers = {"X-Model-Version": current_model().version}
    return Response(text.getvalue(), mimetype=CSV, headers=headers)


@blueprint.get("/execution-parameters")
def execution_parameters() -> Response:
    """Batch Transform limits"""
    max_body_bytes = current_app.config["MAX_BODY_BYTES"]
    max_rows = current_app.config["MAX_ROWS"]

    # A payload of the shortest rows must not exceed MAX_ROWS; otherwise records come one by one.
    min_row_bytes = MIN_BYTES_PER_VALUE * current_model().n_features
    strategy = "SINGLE_RECORD"
    if max_rows * min_row_bytes >= max_body_bytes:
        strategy = "MULTI_RECORD"

    workers = np.count_nonzero(current_app.extensions["telemetry"].http_counters[1:, PID_COLUMN])
    return json_response(
        {
            "MaxConcurrentTransforms": max(int(workers), 1),
            "BatchStrategy": strategy,
            "MaxPayloadInMB": max(max_body_bytes // MEGABYTE, 1),
        }
    )
