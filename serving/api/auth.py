"""Access: API keys, and the routes that only METRICS_PORT serves."""

import hmac

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import NotFound, Unauthorized

from serving.api.routing import ADMIN_PATHS
from serving.api.service import current_service
from serving.monitoring.request_log import Request, current_request


def authorize() -> None:
    """Accept the current request, or raise Unauthorized or NotFound.

    Probes and pages need no key, nor do the admin routes on METRICS_PORT and the preflights of
    browsers.
    """
    service = current_service()
    request = current_request()

    if service.settings.metrics_port is not None:
        is_admin_path = request.path in ADMIN_PATHS
        # The port of the listener: the Host header is the client's and proves nothing.
        is_admin_port = request.environ["SERVER_PORT"] == str(service.settings.metrics_port)
        if is_admin_port != is_admin_path:
            raise NotFound
        if is_admin_path:
            return

    if not service.settings.api_keys:
        return
    # A browser asks without the key whether a page of this origin may send it.
    if service.settings.cors_origins and request.method == "OPTIONS":
        return
    rule = request.url_rule
    if rule and rule.rule in service.open_paths and request.method != "POST":
        return
    check_key()


def check_key() -> None:
    """Raise Unauthorized unless the current request has a valid key, or none is needed."""
    keys = current_service().settings.api_keys
    if keys and not _has_valid_key(current_request(), keys):
        raise Unauthorized(
            "Expected Authorization: Bearer with a valid key",
            www_authenticate=WWWAuthenticate("bearer"),
        )


def _has_valid_key(request: Request, keys: tuple[str, ...]) -> bool:
    credentials = request.authorization
    if credentials is None or credentials.type != "bearer":
        return False
    # WSGI decodes headers as Latin-1; the keys are UTF-8.
    token = (credentials.token or "").encode("latin-1", "replace")

    # Every key is compared, each in constant time, so that the time tells nothing about the keys.
    matches = [hmac.compare_digest(token, key.encode()) for key in keys]
    return any(matches)
