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

from serving.api.http import (
    ADMIN_PATHS,
    IMPLICIT_METHODS,
    check_ready,
    check_row_limit,
    iter_public_routes,
    json_response,
    read_body,
    versioned_json_response,
)
from serving.api.openapi import docs
from serving.api.schemas import FeedbackDecoder, PredictDecoder, RowDecoder
from serving.model.errors import InvalidInput, ModelError
from serving.model.model import Model
from serving.model.storage import load_model
from serving.monitoring.prometheus import MetricsRegistry
from serving.monitoring.telemetry import Request, Telemetry, current_request
from serving.protocols import PROTOCOLS, error_body
from serving.protocols.model_path import NameConverter
from serving.protocols.protocol import Protocol

SAGEMAKER_MODEL_PATH = Path("/opt/ml/model/model.pkl")  # where it unpacks a model's archive
# An environment variable of the same name goes before each, and an argument of create_app before that.
DEFAULTS: dict[str, Any] = {
    "MODEL_PATH": str(
        SAGEMAKER_MODEL_PATH
        if SAGEMAKER_MODEL_PATH.exists()
        else Path(__file__).with_name("model.pkl")
    ),
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


class ConfigurationError(ValueError):
    """A setting that cannot be what it says; the text is one line."""


class PredictionService(Flask):
    """Flask, but for two things that it does for every request and that no route here asks for."""

    request_class = Request

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Return what finds the route: by its path alone, whatever host was asked for."""
        if request is None:
            return None
        environ = request.environ
        host, path, method = (
            environ.get("HTTP_HOST", ""),
            environ["PATH_INFO"],
            environ["REQUEST_METHOD"],
        )
        return MapAdapter(
            self.url_map, host, environ["SCRIPT_NAME"], "", environ["wsgi.url_scheme"], path, method
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: there is no coroutine among the views."""
        return func


def create_app(before: Flask | None = None, **overrides: Any) -> Flask:
    """Return the service with its model loaded and checked; it counts on from the one `before`.

    Raises InvalidSetting and ModelError.
    """
    app = PredictionService(
        __name__, static_folder=None
    )  # a static folder would be a route that nobody asked for
    app.config.from_mapping(DEFAULTS | settings_from_env(os.environ) | overrides)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BODY_BYTES"] + 1  # body() says why
    model = load_model(Path(app.config["MODEL_PATH"]), app.config["MODEL_SHA256"])
    app.extensions["model"] = model
    rows = RowDecoder(model)
    app.extensions["predict"] = PredictDecoder(model, rows)
    app.extensions["feedback"] = FeedbackDecoder(model)
    app.extensions["api_keys"] = parse_api_keys(app.config["API_KEYS"])
    app.extensions["rows"] = rows
    app.extensions["decoders"] = {}
    app.url_map.converters["default"] = NameConverter
    probes = {"/healthz", "/readyz"}
    for protocol in PROTOCOLS:
        probes |= protocol.probe_rules
        add_configured_routes(app, protocol)
    probes.add(app.config["AIP_HEALTH_ROUTE"])
    app.extensions["probes"] = probes
    app.register_blueprint(api)
    for protocol in PROTOCOLS:
        app.register_blueprint(protocol.blueprint)
    app.register_blueprint(docs)
    routes: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        routes.setdefault(rule.rule, set()).update((rule.methods or set()) - IMPLICIT_METHODS)
    telemetry = Telemetry(routes, model, probes, before.extensions["telemetry"] if before else None)
    app.extensions["telemetry"] = telemetry
    app.extensions["metrics"] = MetricsRegistry(telemetry)
    app.before_request(telemetry.start_request)
    app.before_request(authorize)
    app.after_request(telemetry.finish_request)
    app.register_error_handler(HTTPException, handle_http_exception)
    app.register_error_handler(
        InvalidInput, lambda error: handle_http_exception(BadRequest(str(error)))
    )
    return app


def add_configured_routes(app: Flask, protocol: Protocol) -> None:
    """Add the routes whose paths are settings. Raises ConfigurationError."""
    for route in protocol.configured_routes:
        path = app.config[route.setting]
        if not path:
            continue
        if not re.fullmatch("/[A-Za-z0-9/._:~-]*", path):
            raise ConfigurationError(f"{route.setting}: expected a path, got {path!r}")
        endpoint = f"{protocol.blueprint.name}.{route.view.__name__}"
        app.add_url_rule(path, endpoint, route.view, methods=[route.method])


def reload_app(app: Flask) -> Flask:
    """Return a service of what lies at MODEL_PATH now, or `app` where that is the same or must not be served."""
    old: Model = app.extensions["model"]
    telemetry = app.extensions["telemetry"]
    try:
        new = create_app(app, **{name: app.config[name] for name in DEFAULTS})
    except Exception as error:  # whatever it is, what serves must serve on
        telemetry.reload_error = str(error).removeprefix(f"{Path(app.config['MODEL_PATH'])}: ")
        log.error("not reloaded, version %s serves on: %s", old.version, error)
        return app
    telemetry.reload_error = ""
    model: Model = new.extensions["model"]
    log.info("reloaded: version %s, it was %s", model.version, old.version)
    return new if (model.sha256, model.card) != (old.sha256, old.card) else app


def settings_from_env(environ: Any) -> dict[str, Any]:
    """Return what `environ` says of the names in DEFAULTS; an empty value says nothing. Raises InvalidSetting."""
    values: dict[str, Any] = {name: environ[name] for name in DEFAULTS if environ.get(name)}
    for name, text in values.items():
        if isinstance(DEFAULTS[name], int):
            if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
                raise ConfigurationError(f"{name}: expected a whole number above 0, got {text!r}")
            values[name] = int(text)
    return values


def parse_api_keys(text: str) -> list[bytes]:
    """Return the keys in `text`, separated by commas. Raises InvalidSetting where there is text but no key."""
    found = [key.strip().encode() for key in text.split(",") if key.strip()]
    if text and not found:
        raise ConfigurationError("API_KEYS: set, but names no key")
    return found


@api.post("/predict")
def predict() -> Response:
    """Score one row or many, given as numbers or by name."""
    extensions = current_app.extensions
    model: Model = extensions["model"]
    rows, outputs = extensions["predict"].decode(read_body())
    check_row_limit(len(rows), "$.features")
    prediction = model.predict(rows).tolist()
    extensions["telemetry"].record_predictions(rows, prediction)
    payload = {"prediction": prediction}
    if "label" in outputs:
        payload["label"] = [model.labels[value] for value in prediction]
    if "probability" in outputs:
        payload["probability"] = model.probabilities(rows).tolist()
    return json_response(payload, {"X-Model-Version": model.version})


@api.post("/feedback")
def feedback() -> Response:
    """Count predictions against the truth, once that is known."""
    prediction, actual = current_app.extensions["feedback"].decode(read_body())
    check_row_limit(len(actual), "$.actual")
    current_app.extensions["telemetry"].record_feedback(prediction, actual)
    return json_response({"counted": len(actual)})


@api.get("/")
def index() -> Response:
    """List every route and say which model is served."""
    model: Model = current_app.extensions["model"]
    routes = [
        {
            "method": method,
            "path": rule.rule,
            "does": (current_app.view_functions[rule.endpoint].__doc__ or "").strip(),
        }
        for rule, method in iter_public_routes()
    ]
    model_info = {
        "name": model.card.name if model.card else None,
        "version": model.version,
        "features": model.features,
        "classes": list(model.labels.values()),
    }
    return versioned_json_response({"status": "alive", "model": model_info, "routes": routes})


@api.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return json_response({"status": "alive"})


@api.get("/readyz")
def readyz() -> Response:
    """Say whether the model answers its reference rows as its card says."""
    check_ready()
    reload_error = current_app.extensions["telemetry"].reload_error
    # Still ready: what it serves is what it served before.
    return versioned_json_response(
        {"status": "ready"} | ({"reload": reload_error} if reload_error else {})
    )


@api.get("/metrics")
def metrics() -> Response:
    """Count requests, rows, classes, bins and feedback, for Prometheus."""
    text, content_type = current_app.extensions["metrics"].render(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@api.get("/drift")
def drift() -> Response:
    """Say how the last hour's rows differ from those the model was trained on."""
    return json_response(current_app.extensions["telemetry"].drift_report())


def authorize() -> None:
    """Let through who has a key, probes, and who asks on METRICS_PORT; raise Unauthorized or NotFound for others."""
    current = current_request()
    if port := current_app.config["METRICS_PORT"]:
        # The listener's own port: what a client says in Host does not count.
        if (current.environ["SERVER_PORT"] == port) != (current.path in ADMIN_PATHS):
            raise NotFound
        if current.path in ADMIN_PATHS:
            return
    expected: list[bytes] = current_app.extensions["api_keys"]
    if not expected:
        return
    rule = current.url_rule
    if rule and rule.rule in current_app.extensions["probes"] and current.method != "POST":
        return
    credentials = current.authorization
    token = credentials.token or "" if credentials and credentials.type == "bearer" else ""
    # Every key is compared, each in constant time: how long it takes says nothing about which was close.
    if not any([hmac.compare_digest(token.encode("latin-1", "replace"), key) for key in expected]):  # noqa: C419
        raise Unauthorized(
            "Expected Authorization: Bearer with a valid key",
            www_authenticate=WWWAuthenticate("bearer"),
        )


def handle_http_exception(error: HTTPException) -> ResponseReturnValue:
    """Return `error` as JSON, with the headers that belong to it, such as Allow."""
    if isinstance(error, NotFound | MethodNotAllowed):
        text = f"{request.method} {request.path}: {error.name}"
    elif isinstance(error, InternalServerError):
        text = error.name
    else:
        text = error.description or error.name
    response = error.get_response()
    response.data = json_response(error_body(request.path, response.status_code, text)).data
    response.content_type = "application/json"
    return response


try:
    app = create_app()
except (ConfigurationError, ModelError) as error:
    sys.exit(str(error))  # one line and status 1, not a traceback

if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "5000")))  # noqa: S104 - as in a container, all interfaces
