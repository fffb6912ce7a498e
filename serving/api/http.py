"""What every contract shares of HTTP: a body in, the model asked, an answer out."""

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Response, current_app, request
from werkzeug.exceptions import (
    NotAcceptable,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
)
from werkzeug.routing import Rule

from serving.model.errors import ModelError
from serving.model.model import Array, Floats, Model
from serving.monitoring.telemetry import current_request

CSV, JSON = "text/csv", "application/json"
IMPLICIT_METHODS = {"HEAD", "OPTIONS"}  # Flask adds these
ADMIN_PATHS = {"/metrics", "/drift"}  # with METRICS_PORT, there and only there


def read_body(*also: str) -> bytes:
    """Return the request's body, JSON or of a type in `also`, or raise the HTTPException that says why not."""
    req = current_request()
    if req.environ.get("CONTENT_TYPE") != JSON and not req.is_json and req.mimetype not in also:
        expected = " or ".join(filter(None, (JSON, *also)))
        raise UnsupportedMediaType(
            f"Expected Content-Type {expected}, got {req.mimetype[:100] or 'none'}"
        )
    if encoding := req.environ.get("HTTP_CONTENT_ENCODING"):
        raise UnsupportedMediaType(f"Expected no Content-Encoding, got {encoding[:100]}")
    limit: int = current_app.config["MAX_BODY_BYTES"]
    too_large = f"Expected at most {limit} bytes of body"
    if (req.content_length or 0) > limit:
        raise RequestEntityTooLarge(too_large)
    if req.environ.get("wsgi.input_terminated"):
        # It ends where the body does, so that Werkzeug's guard, a tenth of the whole request, has nothing to guard.
        data: bytes = req.environ["wsgi.input"].read(limit + 1)
    else:
        data = req.get_data(cache=False)
    # A chunked body states no length.
    if len(data) > limit:
        raise RequestEntityTooLarge(too_large)
    return data


def negotiate_mimetype(*types: str) -> str:
    """Return the one of `types` that Accept prefers, the first where it does not say. Raises NotAcceptable."""
    if not current_request().environ.get("HTTP_ACCEPT"):
        return types[0]
    client_order = list(request.accept_mimetypes.values())  # among equals the client's order counts
    best = request.accept_mimetypes.best_match(
        sorted(
            types, key=lambda t: client_order.index(t) if t in client_order else len(client_order)
        )
    )
    if best is None:
        raise NotAcceptable(f"Expected an Accept that admits {' or '.join(types)}")
    return best


def check_row_limit(rows: int, at: str) -> None:
    """Raise RequestEntityTooLarge for more rows than MAX_ROWS; `at` is their place in the body."""
    limit: int = current_app.config["MAX_ROWS"]
    if rows > limit:
        raise RequestEntityTooLarge(f"Expected at most {limit} rows, got {rows} - at `{at}`")


def predict_and_record(rows: Floats, at: str) -> Array:
    """Return the predictions for `rows`, of shape (rows, features), and count them. Raises as its parts do."""
    check_row_limit(len(rows), at)
    extensions = current_app.extensions
    prediction: Array = extensions["model"].predict(rows)
    extensions["telemetry"].record_predictions(rows, prediction.tolist())
    return prediction


def current_model() -> Model:
    """Return the model."""
    model: Model = current_app.extensions["model"]
    return model


def iter_public_routes() -> Iterator[tuple[Rule, str]]:
    """Yield each route with its method, but for what METRICS_PORT has to itself and Flask adds."""
    for rule in current_app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - IMPLICIT_METHODS):
            if not (current_app.config["METRICS_PORT"] and rule.rule in ADMIN_PATHS):
                yield rule, method


def check_ready() -> None:
    """Raise ServiceUnavailable unless the model answers its reference rows as its card says."""
    try:
        current_model().self_test()
    except ModelError as error:
        raise ServiceUnavailable(str(error)) from error


def json_response(members: Any, headers: dict[str, str] | None = None) -> Response:
    """Return `members` as one line of JSON."""
    return Response(msgspec.json.encode(members) + b"\n", headers=headers, content_type=JSON)


def versioned_json_response(members: Any) -> Response:
    """Return `members` as `answer` does, and say which model it was."""
    return json_response(members, {"X-Model-Version": current_model().version})
