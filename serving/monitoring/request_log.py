"""The request log: an id for each request, one line for each request, the logging configuration."""

import copy
import logging
import random
import re
from datetime import UTC, datetime
from typing import Any

import flask
import msgspec
from flask import has_request_context, request
from msgspec import UNSET, UnsetType
from pythonjsonlogger.msgspec import MsgspecFormatter

from serving.monitoring.log_handler import LineHandler

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context

MESSAGE = "%s %s %d in %s ms"

log = logging.getLogger(__name__)


class Request(flask.Request):
    """A request with its id, the time at which it started, its rows, and the error it caused."""

    id = ""
    error = ""
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


def trace_id_of(current: Request) -> str | UnsetType:
    """Return the trace id of a request, if the caller has sent one."""
    traceparent = current.environ.get("HTTP_TRACEPARENT")
    if traceparent is None:
        return UNSET
    match = TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return UNSET
    return match[1]


class RequestLine(msgspec.Struct):
    """The line of a request. A struct takes half the time of a dictionary."""

    level: str
    logger: str
    message: str
    method: str
    route: str
    status: int
    ms: msgspec.Raw  # the digits of the message: a number is formatted once
    rows: int
    model_version: str
    request_id: str
    trace_id: str | UnsetType
    time: datetime


class RequestLog:
    """Writes a line for each request: errors at ERROR, good probes at DEBUG, others at INFO."""

    def __init__(self) -> None:
        self.encoder = msgspec.json.Encoder()
        self.handler: LineHandler | None = None  # the only one that receives the lines

    def attach(self, loop: Any) -> None:
        """Let an event loop write the log of this process from now on.

        A line goes to the handler without a record, which takes most of the time, unless another
        handler, filter or formatter than those of `logging_config` would receive the record.
        """
        for handler in logging.getLogger().handlers:
            if isinstance(handler, LineHandler):
                handler.attach(loop)
                if is_only_receiver(handler):
                    self.handler = handler

    def write(
        self,
        current: Request,
        *,
        route: str,
        status: int,
        seconds: float,
        model_version: str,
        is_probe: bool,
    ) -> None:
        """Write the line of a request that has been answered."""
        method = current.method
        level = logging.INFO
        if status >= 500:
            level = logging.ERROR
        elif is_probe and method != "POST" and status < 400:
            level = logging.DEBUG
        if not log.isEnabledFor(level):
            return

        milliseconds = f"{seconds * 1000:.3f}"
        if self.handler is None:
            members = {
                "method": method,
                "route": route,
                "status": status,
                "ms": float(milliseconds),
                "rows": current.n_rows,
                "model_version": model_version,
            }
            log.log(level, MESSAGE, method, route, status, milliseconds, extra=members)
            return

        line = RequestLine(
            level=logging.getLevelName(level),
            logger=__name__,
            message=f"{method} {route} {status} in {milliseconds} ms",
            method=method,
            route=route,
            status=status,
            ms=msgspec.Raw(milliseconds.encode()),
            rows=current.n_rows,
            model_version=model_version,
            request_id=current.id,
            trace_id=trace_id_of(current),
            time=datetime.now(UTC),
        )
        self.handler.write_line(self.encoder.encode(line))


def is_only_receiver(handler: LineHandler) -> bool:
    """Return whether the records of this module reach nothing but this handler, as JSON."""
    logger: logging.Logger | None = log
    while logger is not None and logger.propagate:
        if logger.filters or logger.handlers not in ([], [handler]):
            return False
        logger = logger.parent

    is_filtered = any(type(found) is not RequestContextFilter for found in handler.filters)
    return (
        logger is None
        and not is_filtered
        and handler.level == logging.NOTSET
        and type(handler.formatter) is MsgspecFormatter
        and logging.getLogRecordFactory() is logging.LogRecord
    )


class RequestContextFilter(logging.Filter):
    """Add the request's id and trace id to each record that is logged during a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids and let the record pass."""
        if not has_request_context():
            return True

        current = current_request()
        if current.id:
            record.request_id = current.id
            trace_id = trace_id_of(current)
            if trace_id is not UNSET:
                record.trace_id = trace_id
        return True


class TerminalFormatter(logging.Formatter):
    """Text for a person: of a request the path, and why it was refused."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        if record.name == __name__ and has_request_context():
            current = current_request()
            text = f"{current.method} {current.path} {record.__dict__['status']}"
            text += f" in {record.__dict__['ms']} ms"
            if current.error:
                text += f": {current.error}"
            # What a client has sent must not control the terminal.
            record = copy.copy(record)
            record.msg = escape_control(text)
            record.args = None
        return super().format(record)


def escape_control(text: str) -> str:
    """Return `text` with escapes in place of characters that cannot be printed."""
    characters = []
    for character in text:
        if not character.isprintable():
            character = character.encode("unicode_escape").decode()
        characters.append(character)
    return "".join(characters)


def logging_config(level: str, is_terminal: bool) -> dict[str, Any]:
    """Return a configuration for logging.config.dictConfig, which logs everything to stderr.

    Each record is one line of JSON, or plain text if stderr is a terminal, without what gunicorn
    says of its processes.
    """
    gunicorn_level = level
    if is_terminal and level == "INFO":
        gunicorn_level = "WARNING"
    gunicorn_logger = {"level": gunicorn_level, "handlers": [], "propagate": True}
    json_fields = {"levelname": "level", "name": "logger", "message": "message"}
    handler = {
        "()": LineHandler,
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
            "terminal": {
                "()": TerminalFormatter,
                "fmt": "%(asctime)s %(levelname)s %(message)s",
                "datefmt": "%H:%M:%S",
            },
            "json": {
                "()": MsgspecFormatter,
                "fmt": list(json_fields),
                "rename_fields": json_fields,
                "timestamp": "time",
            },
        },
    }
