"""The HTTP service: create_app(), the routes of our own API, one error handler."""

import hmac
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
from flask import Blueprint, Flask, Response, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
)
from werkzeug.routing import MapAdapter

from serving.contracts import Feedback, Predict, Rows
from serving.metrics import Metrics
from serving.model import InvalidInput, Model, ModelError, load
from serving.openapi import docs
from serving.platforms import PROBES, Contracts, Name, failure, instances, ping, platforms
from serving.telemetry import Request, Telemetry, current
from serving.wire import IMPLIED, OPERATORS, answer, answered, body, check_ready, limit_rows, public_routes

SAGEMAKER = Path("/opt/ml/model/model.pkl")  # where it unpacks a model's archive
# An environment variable of the same name goes before each, and an argument of create_app before that.
DEFAULTS: dict[str, Any] = {
    "MODEL_PATH": str(SAGEMAKER if SAGEMAKER.exists() else Path(__file__).with_name("model.pkl")),
    "MODEL_SHA256": "",
    "MAX_ROWS": 10_000,
    "MAX_BODY_BYTES": 1_048_576,
    "API_KEYS": "",
    "METRICS_PORT": "",
    "AIP_HEALTH_ROUTE": "",
    "AIP_PREDICT_ROUTE": "",
}

api = Blueprint("api", __name__)
log = logging.getLogger(__name__)


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


def create_app(before: Flask | None = None, **overrides: Any) -> Flask:
    """Return the service with its model loaded and checked; it counts on from the one `before`.

    Raises InvalidSetting and ModelError.
    """
    app = Service(__name__, static_folder=None)  # a static folder would be a route that nobody asked for
    app.config.from_mapping(DEFAULTS | settings(os.environ) | overrides)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BODY_BYTES"] + 1  # body() says why
    model = load(Path(app.config["MODEL_PATH"]), app.config["MODEL_SHA256"])
    app.extensions["model"] = model
    rows = Rows(model)
    app.extensions["predict"] = Predict(model, rows)
    app.extensions["feedback"] = Feedback(model)
    app.extensions["api_keys"] = keys(app.config["API_KEYS"])
    app.extensions["contracts"] = Contracts(model, rows)
    app.url_map.converters["default"] = Name
    # Before our own: where Vertex AI is told to use one of our paths, it is Vertex AI that asks there.
    for name, view, method in (("AIP_HEALTH_ROUTE", ping, "GET"), ("AIP_PREDICT_ROUTE", instances, "POST")):
        if route := app.config[name]:
            if not re.fullmatch("/[A-Za-z0-9/._:~-]*", route):
                raise InvalidSetting(f"{name}: expected a path, got {route!r}")
            app.add_url_rule(route, f"platforms.{view.__name__}", view, methods=[method])
    probes = app.extensions["probes"] = PROBES | {app.config["AIP_HEALTH_ROUTE"]}
    app.register_blueprint(api)
    app.register_blueprint(platforms)
    app.register_blueprint(docs)
    routes: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        routes.setdefault(rule.rule, set()).update((rule.methods or set()) - IMPLIED)
    telemetry = Telemetry(routes, model, probes, before.extensions["telemetry"] if before else None)
    app.extensions["telemetry"] = telemetry
    app.extensions["metrics"] = Metrics(telemetry)
    app.before_request(telemetry.begin)
    app.before_request(authorize)
    app.after_request(telemetry.finish)
    app.register_error_handler(HTTPException, explain)
    app.register_error_handler(InvalidInput, lambda error: explain(BadRequest(str(error))))
    return app


def reload(app: Flask) -> Flask:
    """Return a service of what lies at MODEL_PATH now, or `app` where that is the same or must not be served."""
    old: Model = app.extensions["model"]
    telemetry = app.extensions["telemetry"]
    try:
        new = create_app(app, **{name: app.config[name] for name in DEFAULTS})
    except Exception as error:  # whatever it is, what serves must serve on
        telemetry.refused = str(error).removeprefix(f"{Path(app.config['MODEL_PATH'])}: ")
        log.error("not reloaded, version %s serves on: %s", old.version, error)
        return app
    telemetry.refused = ""
    model: Model = new.extensions["model"]
    log.info("reloaded: version %s, it was %s", model.version, old.version)
    return new if (model.sha256, model.card) != (old.sha256, old.card) else app


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
        for rule, method in public_routes()
    ]
    described = {
        "name": model.card.name if model.card else None,
        "version": model.version,
        "features": model.features,
        "classes": list(model.labels.values()),
    }
    return answered({"status": "alive", "model": described, "routes": routes})


@api.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return answer({"status": "alive"})


@api.get("/readyz")
def readyz() -> Response:
    """Say whether the model answers its reference rows as its card says."""
    check_ready()
    refused = current_app.extensions["telemetry"].refused
    # Still ready: what it serves is what it served before.
    return answered({"status": "ready"} | ({"reload": refused} if refused else {}))


@api.get("/metrics")
def metrics() -> Response:
    """Count requests, rows, classes, bins and feedback, for Prometheus."""
    text, content_type = current_app.extensions["metrics"].render(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@api.get("/drift")
def drift() -> Response:
    """Say how the last hour's rows differ from those the model was trained on."""
    return answer(current_app.extensions["telemetry"].drift())


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
    if not expected:
        return
    rule = asked.url_rule
    if rule and rule.rule in current_app.extensions["probes"] and asked.method != "POST":
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
    response.data = answer(failure(request.path, response.status_code, text)).data
    response.content_type = "application/json"
    return response


try:
    app = create_app()
except (InvalidSetting, ModelError) as error:
    sys.exit(str(error))  # one line and status 1, not a traceback

if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "5000")))  # noqa: S104 - as in a container, all interfaces
