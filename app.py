"""The Flask service: create_app(), its error handler, and `app`, which gunicorn serves."""

import argparse
import logging
import os
import sys
from typing import Any

try:
    from flask import Flask, Response, request
    from flask.typing import ResponseReturnValue
    from flask_cors import CORS
    from werkzeug.exceptions import (
        BadRequest,
        HTTPException,
        InternalServerError,
        MethodNotAllowed,
        NotFound,
    )

    from serving.api import routes
    from serving.api.auth import authorize
    from serving.api.messages import JSON, json_response
    from serving.api.operations import operation_of
    from serving.api.prediction_app import PredictionApp
    from serving.api.routing import NameConverter, explicit_methods
    from serving.api.rows import RowDecoder
    from serving.api.service import ErrorBody, SelfTest, Service, current_service, service_of
    from serving.config import ConfigurationError, Settings, describe_settings
    from serving.model.errors import InvalidInput, ModelError
    from serving.model.loading import load_model
    from serving.monitoring.prometheus import MetricsRegistry
    from serving.monitoring.request_log import current_request
    from serving.monitoring.telemetry import Telemetry
    from serving.page import docs, views
    from serving.protocols import PROTOCOLS
except ModuleNotFoundError as error:
    sys.exit(f"app.py needs {error.name}: run `make run`")

log = logging.getLogger(__name__)

PREFLIGHT_SECONDS = 600  # for which a browser need not ask again whether a page may call


def create_app(settings: Settings | None = None, **overrides: Any) -> Flask:
    """Create the app with a verified model.

    The settings come from the environment, replaced by `overrides`, unless `settings` is given.
    Raises ConfigurationError and ModelError.
    """
    if settings is None:
        settings = Settings.from_env(os.environ, **overrides)

    app = PredictionApp(__name__, static_folder=None)  # a static folder would add a route
    # One more byte than the limit, so that read_body can tell a body that is too large.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes + 1
    register_routes(app, settings)

    app.extensions["service"] = load_service(app, settings)

    app.before_request(start_request)
    app.before_request(authorize)
    app.after_request(finish_request)
    if settings.cors_origins:
        allow_origins(app, settings.cors_origins)
    app.register_error_handler(HTTPException, handle_http_exception)
    app.register_error_handler(InvalidInput, handle_invalid_input)
    return app


def allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    """Let the web pages of these origins call every route, with a key but without cookies."""
    CORS(
        app,
        origins=list(origins),
        methods=["GET", "POST"],
        expose_headers=["X-Model-Version", "X-Request-ID", "Inference-Header-Content-Length"],
        send_wildcard=True,
        max_age=PREFLIGHT_SECONDS,
    )


def register_routes(app: Flask, settings: Settings) -> None:
    """Add the routes of the settings, of our own API, and of each platform's protocol."""
    app.url_map.converters["default"] = NameConverter

    # Before our own: a path that Vertex AI is told to use is Vertex AI's, even if it is /predict.
    for protocol in PROTOCOLS:
        for route in protocol.configured_routes:
            path = getattr(settings, route.setting)
            if path is not None:
                endpoint = f"{protocol.blueprint.name}.{route.view.__name__}"
                app.add_url_rule(path, endpoint, route.view, methods=[route.method])

    app.register_blueprint(routes.blueprint)
    for protocol in PROTOCOLS:
        app.register_blueprint(protocol.blueprint)
    app.register_blueprint(views.blueprint)
    app.register_blueprint(docs.blueprint)


def load_service(app: Flask, settings: Settings, previous: Service | None = None) -> Service:
    """Load the model and return the service of the routes that are registered.

    It keeps the request counters of the `previous` service. Raises ModelError.
    """
    model = load_model(
        settings.model_path, settings.model_sha256, use_plan=settings.prediction_plan == "on"
    )

    probe_paths = {"/healthz", "/readyz"}
    if settings.aip_health_route is not None:
        probe_paths.add(settings.aip_health_route)
    error_bodies: dict[str, ErrorBody] = {}
    for protocol in PROTOCOLS:
        probe_paths |= protocol.probe_paths
        error_bodies |= protocol.error_bodies

    methods_by_route: dict[str, set[str]] = {}
    open_paths = set(probe_paths)
    for rule in app.url_map.iter_rules():
        methods_by_route.setdefault(rule.rule, set()).update(explicit_methods(rule))
        if operation_of(app.view_functions[rule.endpoint]).is_open:
            open_paths.add(rule.rule)
    previous_telemetry = None
    if previous is not None:
        previous_telemetry = previous.telemetry
    telemetry = Telemetry(methods_by_route, model, probe_paths, previous_telemetry)

    service = Service(
        settings=settings,
        model=model,
        self_test=SelfTest(model),
        row_decoder=RowDecoder(model),
        probe_paths=frozenset(probe_paths),
        open_paths=frozenset(open_paths),
        error_bodies=error_bodies,
        telemetry=telemetry,
        metrics=MetricsRegistry(telemetry),
    )
    # Now, so that the workers share the decoders after the fork.
    for view in app.view_functions.values():
        operation = operation_of(view)
        if operation.decoder:
            service.decoder(operation.decoder)
    return service


def reload_model(app: Flask) -> None:
    """Serve the files now at MODEL_PATH, unless they are unchanged or invalid.

    The app stays, and with it what has been added to it.
    """
    service = service_of(app)
    old = service.model
    try:
        new_service = load_service(app, service.settings, service)
    except Exception as error:  # whatever is wrong with the files, the old model is served
        path = service.settings.model_path
        service.telemetry.reload_error = str(error).removeprefix(f"{path}: ")
        log.error("model reload failed, still serving %s: %s", old.version, error)
        return

    service.telemetry.reload_error = ""
    new = new_service.model
    if (new.sha256, new.card) == (old.sha256, old.card):
        log.info("model reloaded: version %s is unchanged", old.version)
        return
    app.extensions["service"] = new_service
    app.extensions.pop(docs.DOCUMENT, None)  # it describes the old model
    log.info("model reloaded: version %s replaces %s", new.version, old.version)


def start_request() -> None:
    """Give the request an id and start its clock."""
    current_service().telemetry.start_request()


def finish_request(response: Response) -> Response:
    """Count and log the request."""
    return current_service().telemetry.finish_request(response)


def handle_invalid_input(error: InvalidInput) -> ResponseReturnValue:
    """Return an error of the request's content as 400."""
    return handle_http_exception(BadRequest(str(error)))


def handle_http_exception(error: HTTPException) -> ResponseReturnValue:
    """Return `error` as JSON in the shape of the path's protocol, with headers such as Allow."""
    message = error.description or error.name
    if isinstance(error, NotFound | MethodNotAllowed):
        message = f"{request.method} {request.path}: {error.name}"
        if error.description != type(error).description:  # not werkzeug's own sentences
            message += f"; {error.description}"
    if isinstance(error, InternalServerError):
        message = error.name  # the description may hold internals

    current_request().error = message
    response = error.get_response()
    body = current_service().error_body(request.path, response.status_code, message)
    response.data = json_response(body).data
    response.content_type = JSON
    return response


def __getattr__(name: str) -> Any:
    """Create `app` when it is first used: importing this module has no effect and cannot fail."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = create_app()
    return globals()["app"]


def parse_options() -> None:
    """Print the settings for `--help`, and end with status 2 for any other option."""
    settings = [f"  {name}: {description}" for name, description in describe_settings().items()]
    parser = argparse.ArgumentParser(
        description="Serve with Flask's development server; `make run` serves with gunicorn.",
        epilog="\n".join(["settings, which are environment variables:", *settings]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()


def main() -> None:
    """Serve with Flask's development server, or end with status 1 and one line."""
    parse_options()
    try:
        settings = Settings.from_env(os.environ)
        development_app = create_app(settings)
    except (ConfigurationError, ModelError) as error:
        sys.exit(str(error))
    development_app.run(host="0.0.0.0", port=settings.port)  # noqa: S104 - as in a container


if __name__ == "__main__":
    main()
