"""A Flask that leaves out what no route here has: hooks of blueprints, sessions, redirects.

What an owner adds is honoured: each short cut is taken only where Flask would find nothing.
"""

from typing import Any

import flask
from flask import Flask, Response
from flask.globals import request_ctx
from flask.sessions import NullSession, SecureCookieSessionInterface
from flask.signals import request_tearing_down
from flask.typing import ResponseReturnValue
from werkzeug.routing import MapAdapter, Rule

from serving.monitoring.request_log import Request

Environ = dict[str, Any]
DEFAULT_PORTS = (":80", ":443")
RulesByPath = dict[tuple[str, str], Rule]  # the key is a method and a path


class PathAdapter(MapAdapter):
    """Finds the route of a path, and remembers those of paths without a parameter.

    There are as many of these as the application has routes, whatever clients ask for.
    """

    rules_by_path: RulesByPath

    def match(self, *arguments: Any, **options: Any) -> Any:
        """Return the route and its parameters, as `MapAdapter.match` does."""
        if arguments or options != {"return_rule": True}:
            return super().match(*arguments, **options)

        key = (self.default_method, self.path_info)
        if key in self.rules_by_path:
            return self.rules_by_path[key], {}
        rule, parameters = super().match(return_rule=True)
        if not rule.arguments:
            self.rules_by_path[key] = rule
        return rule, parameters


class SharedNullSession(SecureCookieSessionInterface):
    """Flask's sessions; without a secret key all requests have the same one, which is read-only."""

    null_session = NullSession()

    def make_null_session(self, app: Flask) -> NullSession:
        """Return the session of an application without a secret key."""
        return self.null_session


class PredictionApp(Flask):
    """Flask without the steps of each request that have nothing to do here."""

    request_class = Request
    session_interface = SharedNullSession()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rules_by_path: RulesByPath = {}

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Return an adapter that matches the path alone, where Flask's would find the same."""
        if request is None or self.has_host_settings() or not has_plain_address(request.environ):
            return super().create_url_adapter(request)
        environ = request.environ
        adapter = PathAdapter(
            self.url_map,
            server_name=environ["HTTP_HOST"],
            script_name=environ["SCRIPT_NAME"],
            subdomain="",
            url_scheme=environ["wsgi.url_scheme"],
            path_info=environ["PATH_INFO"],
            default_method=environ["REQUEST_METHOD"],
            query_args=environ.get("QUERY_STRING", ""),
        )
        adapter.rules_by_path = self.rules_by_path
        return adapter

    def has_host_settings(self) -> bool:
        """Return whether requests are accepted, or routes found, by the Host header."""
        return (
            self.config["TRUSTED_HOSTS"] is not None
            or self.config["SERVER_NAME"] is not None
            or self.url_map.host_matching
            or self.subdomain_matching
        )

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Call the application's functions before a request, by Flask if a blueprint has some."""
        functions_by_name = self.before_request_funcs
        if self.url_value_preprocessors or not is_application_alone(functions_by_name):
            return super().preprocess_request()

        for function in functions_by_name[None]:
            result: ResponseReturnValue | None = self.ensure_sync(function)()
            if result is not None:
                return result
        return None

    def process_response(self, response: Response) -> Response:
        """Call the application's functions after a request, by Flask if there are others."""
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]
        is_for_one_request = bool(context._after_request_functions)  # after_this_request
        functions_by_name = self.after_request_funcs
        has_session = not self.session_interface.is_null_session(context._session)
        if has_session or is_for_one_request or not is_application_alone(functions_by_name):
            return super().process_response(response)

        for function in reversed(functions_by_name[None]):
            response = self.ensure_sync(function)(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Do nothing, unless a function or an extension waits for the end of a request."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(exc)


def has_plain_address(environ: Environ) -> bool:
    """Return whether Werkzeug would change nothing of a request's host, path and query."""
    host = environ.get("HTTP_HOST", "")
    if not host or host != host.lower() or host.endswith(DEFAULT_PORTS):
        return False
    texts = (host, environ["SCRIPT_NAME"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""))
    return "".join(texts).isascii()


def is_application_alone(functions_by_name: dict[Any, Any]) -> bool:
    """Return whether the application has registered functions, and no blueprint has."""
    return len(functions_by_name) == 1 and None in functions_by_name
