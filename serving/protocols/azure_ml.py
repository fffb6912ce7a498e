"""Azure ML: a bare array of predictions, or of probabilities."""

from functools import partial
from typing import Literal

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
from serving.model.errors import InvalidInput
from serving.protocols.protocol import Protocol

# `method` is what the scoring scripts of automated ML read. `input_data` is MLflow's DataFrame.
SCORE_DECODER = partial(
    TabularDecoder,
    name="ScoreRequest",
    members=("data", "input_data"),
    parameters={"method": Literal["predict", "predict_proba"]},
    ignore_extra_columns=True,
)
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
    service = current_service()
    rows, score_request = service.decoder(SCORE_DECODER).decode(read_body())

    wants_probabilities = score_request.method == "predict_proba"
    if wants_probabilities and not service.model.has_probabilities:
        raise InvalidInput("This model has no probability - at `$.method`")

    result = predict_and_record(rows, "$")
    if wants_probabilities:
        result = service.model.probabilities(rows)
    return versioned_json_response(result.tolist())
