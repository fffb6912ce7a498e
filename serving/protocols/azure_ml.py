"""Azure ML: a bare array of predictions."""

from functools import partial

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestHeaderFieldsTooLarge

from serving.api.decoders import TabularDecoder
from serving.api.messages import (
    JSON,
    Predictions,
    negotiate_mimetype,
    predict_and_record,
    read_body,
    versioned_json_response,
)
from serving.api.operations import describe
from serving.api.service import current_service
from serving.protocols.protocol import Protocol

SCORE_DECODER = partial(TabularDecoder, name="ScoreRequest", members=("data", "input_data"))
MAX_REQUEST_ID_LENGTH = 100

blueprint = Blueprint("azure_ml", __name__)


def score_error_body(status: int, text: str) -> dict[str, str]:
    """Return the error body that Azure ML's clients read."""
    return {"message": text}


protocol = Protocol(blueprint, error_bodies={"/score": score_error_body})


@blueprint.post("/score")
@describe("Azure ML", decoder=SCORE_DECODER, response=Predictions, error_statuses=(406, 431))
def azure_score() -> Response:
    """Predict for rows as arrays or by feature name."""
    if len(request.headers.get("X-Request-ID", "")) > MAX_REQUEST_ID_LENGTH:
        raise RequestHeaderFieldsTooLarge(
            f"Expected an X-Request-ID of at most {MAX_REQUEST_ID_LENGTH} characters"
        )
    negotiate_mimetype(JSON)
    rows, _ = current_service().decoder(SCORE_DECODER).decode(read_body())
    return versioned_json_response(predict_and_record(rows, "$").tolist())
