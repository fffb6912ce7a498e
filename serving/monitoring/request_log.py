"""The request log: an id for each request, one line for each request, the logging configuration."""

import logging
import random
import re
from typing import Any

import flask
from flask import has_request_context, request
from pythonjsonlogger.msgspec import MsgspecFormatter

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context

log = logging.getLogger(__name__)


class Request(flask.Request):
    """A request with its id, the time at which it started, and its number of rows."""

    id = ""
    started_at = 0.0  # of time.perf_counter
    n_rows = 0


def current_request() -> Request:
    """Return the request itself: each access through Flask's proxy costs as much as the value."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def choose_request_id(client_id: str) -> str:
    """Return the client's request id if it is safe in a log, or else a random one."""
    if SAFE_REQUEST_ID.fullmatch(client_id):
        return client_id
    # The id is no secret. Forked workers draw different ids: each seeds the module anew.
    return f"{random.getrandbits(128):032x}"


def log_request(
    *,
    method: str,
    route: str,
    status: int,
    seconds: float,
    n_rows: int,
    model_version: str,
    is_probe: bool,
) -> None:
    """Log one line for a request: errors at ERROR, successful probes at DEBUG, others at INFO."""
    level = logging.INFO
    if status >= 500:
        level = logging.ERROR
    elif is_probe and method != "POST" and status < 400:
        level = logging.DEBUG
    if not log.isEnabledFor(level):
        return

    milliseconds = round(seconds * 1000, 3)
    log_fields = {
        "method": method,
        "route": route,
        "status": status,
        "ms": milliseconds,
        "rows": n_rows,
        "model_version": model_version,
    }
    log.log(level, "%s %s %d in %.3f ms", method, route, status, milliseconds, extra=log_fields)


class RequestContextFilter(logging.Filter):
    """Add the request's id and trace id to each record that is logged during a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids and let the record pass."""
        if not has_request_context():
            return True

        current = current_request()
        if current.id:
            record.request_id = current.id
            trace = TRACEPARENT.fullmatch(current.headers.get("traceparent", ""))
            if trace:
                record.trace_id = trace[1]
        return True


def logging_config(level: str, is_terminal: bool) -> dict[str, Any]:
    """Return a configuration for logging.config.dictConfig, which logs everything to stderr.

    Each record is one line of JSON, or plain text if stderr is a terminal.
    """
    gunicorn_logger = {"level": level, "handlers": [], "propagate": True}
    json_fields = {"levelname": "level", "name": "logger", "message": "message"}
    handler = {
        "class": "logging.StreamHandler",
        "formatter": "terminal" if is_terminal else "json",
        "filters": ["request"],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": gunicorn_logger, "gunicorn.access": gunicorn_logger},
        "filters": {"request": {"()": RequestContextFilter}},
        "handlers": {"stderr": handler},
        "formatters": {
            "terminal": {"format": "%(asctime)s %(levelname)s %(message)s"},
            "json": {
                "()": MsgspecFormatter,
                "fmt": list(json_fields),
                "rename_fields": json_fields,
                "timestamp": "time",
            },
        },
    }
