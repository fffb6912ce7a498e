"""Azure ML: a bare array of predictions."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestHeaderFieldsTooLarge

from serving.api.http import (
    JSON,
    negotiate_mimetype,
    predict_and_record,
    read_body,
    versioned_json_response,
)
from serving.api.schemas import RowDecoder, TabularDecoder
from serving.model.model import Model
from serving.protocols.decoders import current_decoder
from serving.protocols.protocol import Protocol

SCORE_MEMBERS = ("data", "input_data")
MAX_REQUEST_ID_LENGTH = 100

blueprint = Blueprint("azure_ml", __name__)


def score_error_body(status: int, text: str) -> dict[str, str]:
    """Return the error body that Azure ML's clients read."""
    return {"message": text}


protocol = Protocol("Azure ML", blueprint, error_bodies={"/score": score_error_body})


@blueprint.post("/score")
def azure_score() -> Response:
    """Predict for rows as arrays or by feature name"""
    if len(request.headers.get("X-Request-ID", "")) > MAX_REQUEST_ID_LENGTH:
        raise RequestHeaderFieldsTooLarge(
            f"Expected an X-Request-ID of at most {MAX_REQUEST_ID_LENGTH} characters"
        )
    negotiate_mimetype(JSON)
    rows, _ = current_decoder(build_score_decoder).decode(read_body())
    return versioned_json_response(predict_and_record(rows, "$").tolist())


def build_score_decoder(_model: Model, rows: RowDecoder) -> TabularDecoder:
    """Return the decoder of a request to score."""
    return TabularDecoder(rows, "ScoreRequest", SCORE_MEMBERS)
