"""The HTTP service: create_app(), the routes of our own API, one error handler."""

import hmac
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import msgspec
from flask import Blueprint, Flask, Response, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    Unauthorized,
    UnsupportedMediaType,
)
from werkzeug.routing import MapAdapter

from serving.contracts import Feedback, Predict
from serving.metrics import Metrics
from serving.model import InvalidInput, Model, ModelError, load
from serving.telemetry import Request, Telemetry, current

# An environment variable of the same name goes before each, and an argument of create_app before that.
DEFAULTS: dict[str, Any] = {
    "MODEL_PATH": str(Path(__file__).with_name("model.pkl")),
    "MODEL_SHA256": "",
    "MAX_ROWS": 10_000,
    "MAX_BODY_BYTES": 1_048_576,
    "API_KEYS": "",
    "METRICS_PORT": "",
}
PROBES = {"/healthz", "/readyz"}
IMPLIED = {"HEAD", "OPTIONS"}  # Flask adds these
OPERATORS = {"/metrics", "/drift"}  # with METRICS_PORT, there and only there

api = Blueprint("api", __name__)


class InvalidSetting(ValueError):
    """A setting that cannot be what it says; the text is one line."""


class Service(Flask):
    """Flask, but for two things that it does for every request and that no route here asks for."""

    request_class = Request

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Return what finds the route: by its path alone, whatever host was asked for."""
        if request is None:
            return None
        asked = request.environ
        host, path, method = asked.get("HTTP_HOST", ""), asked["PATH_INFO"], asked["REQUEST_METHOD"]
        return MapAdapter(self.url_map, host, asked["SCRIPT_NAME"], "", asked["wsgi.url_scheme"], path, method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: there is no coroutine among the views."""
        return func


def create_app(**overrides: Any) -> Flask:
    """Return the service with its model loaded and checked.

    Raises InvalidSetting and ModelError.
    """
    app = Service(__name__, static_folder=None)  # a static folder would be a route that nobody asked for
    app.config.from_mapping(DEFAULTS | settings(os.environ) | overrides)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BODY_BYTES"] + 1  # body() says why
    model = load(Path(app.config["MODEL_PATH"]), app.config["MODEL_SHA256"])
    app.extensions["model"] = model
    app.extensions["predict"] = Predict(model)
    app.extensions["feedback"] = Feedback(model)
    app.extensions["api_keys"] = keys(app.config["API_KEYS"])
    app.register_blueprint(api)
    telemetry = Telemetry({rule.rule: set(rule.methods or ()) - IMPLIED for rule in app.url_map.iter_rules()}, model)
    app.extensions["telemetry"] = telemetry
    app.extensions["metrics"] = Metrics(telemetry)
    app.before_request(telemetry.begin)
    app.before_request(authorize)
    app.after_request(telemetry.finish)
    app.register_error_handler(HTTPException, explain)
    app.register_error_handler(InvalidInput, lambda error: explain(BadRequest(str(error))))
    return app


def settings(environ: Any) -> dict[str, Any]:
    """Return what `environ` says of the names in DEFAULTS; an empty value says nothing. Raises InvalidSetting."""
    found: dict[str, Any] = {name: environ[name] for name in DEFAULTS if environ.get(name)}
    for name, text in found.items():
        if isinstance(DEFAULTS[name], int):
            if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
                raise InvalidSetting(f"{name}: expected a whole number above 0, got {text!r}")
            found[name] = int(text)
    return found


def keys(text: str) -> list[bytes]:
    """Return the keys in `text`, separated by commas. Raises InvalidSetting where there is text but no key."""
    found = [key.strip().encode() for key in text.split(",") if key.strip()]
    if text and not found:
        raise InvalidSetting("API_KEYS: set, but names no key")
    return found


@api.post("/predict")
def predict() -> Response:
    """Score one row or many, given as numbers or by name."""
    parts = current_app.extensions
    model: Model = parts["model"]
    rows, outputs = parts["predict"].decode(body())
    limit_rows(len(rows), "$.features")
    prediction = model.predict(rows).tolist()
    parts["telemetry"].observe(rows, prediction)
    members = {"prediction": prediction}
    if "label" in outputs:
        members["label"] = [model.labels[value] for value in prediction]
    if "probability" in outputs:
        members["probability"] = model.probabilities(rows).tolist()
    return answer(members, {"X-Model-Version": model.version})


@api.post("/feedback")
def feedback() -> Response:
    """Count predictions against the truth, once that is known."""
    prediction, actual = current_app.extensions["feedback"].decode(body())
    limit_rows(len(actual), "$.actual")
    current_app.extensions["telemetry"].feedback(prediction, actual)
    return answer({"counted": len(actual)})


@api.get("/")
def index() -> Response:
    """List every route and say which model is served."""
    model: Model = current_app.extensions["model"]
    routes = [
        {"method": method, "path": rule.rule, "does": (current_app.view_functions[rule.endpoint].__doc__ or "").strip()}
        for rule in current_app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - IMPLIED)
        if not (current_app.config["METRICS_PORT"] and rule.rule in OPERATORS)
    ]
    described = {
        "name": model.card.name if model.card else None,
        "version": model.version,
        "features": model.features,
        "classes": list(model.labels.values()),
    }
    return answer({"status": "alive", "model": described, "routes": routes}, {"X-Model-Version": model.version})


@api.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return answer({"status": "alive"})


@api.get("/readyz")
def readyz() -> Response:
    """Say whether the model answers its reference rows as its card says."""
    model: Model = current_app.extensions["model"]
    try:
        model.self_test()
    except ModelError as error:
        raise ServiceUnavailable(str(error)) from error
    return answer({"status": "ready"}, {"X-Model-Version": model.version})


@api.get("/metrics")
def metrics() -> Response:
    """Count requests, rows, classes, bins and feedback, for Prometheus."""
    text, content_type = current_app.extensions["metrics"].render(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@api.get("/drift")
def drift() -> Response:
    """Say how the last hour's rows differ from those the model was trained on."""
    return answer(current_app.extensions["telemetry"].drift())


def limit_rows(rows: int, at: str) -> None:
    """Raise RequestEntityTooLarge for more rows than MAX_ROWS; `at` is their place in the body."""
    limit: int = current_app.config["MAX_ROWS"]
    if rows > limit:
        raise RequestEntityTooLarge(f"Expected at most {limit} rows, got {rows} - at `{at}`")


def body() -> bytes:
    """Return the request's body, or raise the HTTPException that says why it is not taken."""
    asked = current()
    if asked.environ.get("CONTENT_TYPE") != "application/json" and not asked.is_json:
        raise UnsupportedMediaType(f"Expected Content-Type application/json, got {asked.mimetype[:100] or 'none'}")
    if encoding := asked.environ.get("HTTP_CONTENT_ENCODING"):
        raise UnsupportedMediaType(f"Expected no Content-Encoding, got {encoding[:100]}")
    limit: int = current_app.config["MAX_BODY_BYTES"]
    too_large = f"Expected at most {limit} bytes of body"
    if (asked.content_length or 0) > limit:
        raise RequestEntityTooLarge(too_large)
    if asked.environ.get("wsgi.input_terminated"):
        # It ends where the body does, so that Werkzeug's guard, a tenth of the whole request, has nothing to guard.
        data: bytes = asked.environ["wsgi.input"].read(limit + 1)
    else:
        data = asked.get_data(cache=False)
    # A chunked body states no length.
    if len(data) > limit:
        raise RequestEntityTooLarge(too_large)
    return data


def answer(members: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return `members` as one line of JSON."""
    return Response(msgspec.json.encode(members) + b"\n", headers=headers, content_type="application/json")


def authorize() -> None:
    """Let through who has a key, probes, and who asks on METRICS_PORT; raise Unauthorized or NotFound for others."""
    asked = current()
    if port := current_app.config["METRICS_PORT"]:
        # The listener's own port: what a client says in Host does not count.
        if (asked.environ["SERVER_PORT"] == port) != (asked.path in OPERATORS):
            raise NotFound
        if asked.path in OPERATORS:
            return
    expected: list[bytes] = current_app.extensions["api_keys"]
    if not expected or asked.path in PROBES:
        return
    sent = asked.authorization
    token = sent.token or "" if sent and sent.type == "bearer" else ""
    # Every key is compared, each in constant time: how long it takes says nothing about which was close.
    if not any([hmac.compare_digest(token.encode("latin-1", "replace"), key) for key in expected]):  # noqa: C419
        raise Unauthorized(
            "Expected Authorization: Bearer with a valid key", www_authenticate=WWWAuthenticate("bearer")
        )


def explain(error: HTTPException) -> ResponseReturnValue:
    """Return `error` as JSON, with the headers that belong to it, such as Allow."""
    if isinstance(error, NotFound | MethodNotAllowed):
        text = f"{request.method} {request.path}: {error.name}"
    elif isinstance(error, InternalServerError):
        text = error.name
    else:
        text = error.description or error.name
    response = error.get_response()
    response.data = answer({"error": text}).data
    response.content_type = "application/json"
    return response


try:
    app = create_app()
except (InvalidSetting, ModelError) as error:
    sys.exit(str(error))  # one line and status 1, not a traceback

if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "5000")))  # noqa: S104 - as in a container, all interfaces
