"""WSGI applications with unusual responses; `checked` runs under the reference validator."""

import itertools
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from wsgiref.validate import validator

LARGE_BYTES = 8 * 2**20
TEXT = ("Content-Type", "text/plain")


class Telemetry:
    """Stands in for the telemetry that gunicorn.conf.py attaches."""

    def attach(self, slot):
        """Count nothing."""

    def write_log_in(self, loop):
        """Write no line for a request."""


def broken(environ, start_response):
    raise ZeroDivisionError


def leave(environ, start_response):
    sys.exit("the view ends")


def answer(*chunks, headers=(TEXT,)):
    """Return an application with one response."""

    def respond(environ, start_response):
        start_response("200 OK", list(headers))
        return list(chunks)

    return respond


def write(environ, start_response):
    start_response("200 OK", [TEXT])(b"one")
    return [b"two"]


def echo(environ, start_response):
    start_response("200 OK", [TEXT])
    return [environ["wsgi.input"].read(9), environ["wsgi.input"].read(9)]


def show_environ(environ, start_response):
    """Respond with the texts of the environ, and with the body."""
    start_response("200 OK", [TEXT])
    texts = {name: value for name, value in environ.items() if isinstance(value, str)}
    body = environ["wsgi.input"].read().decode("latin-1")
    return [json.dumps(texts | {"body": body}).encode()]


def stream(chunks, headers=(TEXT,)):
    """Return an application that sends what `chunks()` yields."""

    def respond(environ, start_response):
        start_response("200 OK", list(headers))
        return chunks()

    return respond


def held_pieces():
    """Yield one piece; end once HOLD_FILE is gone."""
    yield b"first"
    while Path(os.environ["HOLD_FILE"]).exists():
        time.sleep(0.001)


def pieces(n):
    try:
        for i in range(n):
            yield str(i).encode() * 50000
    finally:
        sys.stderr.write(f"closed {n}\n")
        sys.stderr.flush()


def failing():
    yield b""
    raise ZeroDivisionError


FIVE_BYTES = (("Content-Length", "5"),)
APPLICATIONS = {
    "/broken": broken,
    "/exit": leave,
    "/split": answer(b"x", headers=[TEXT, ("X", "a\nb: c")]),
    "/cyrillic": answer(b"x", headers=[TEXT, ("X", "\u0444")]),
    "/dated": answer(b"x", headers=[TEXT, ("Date", "Mon, 01 Jan 2024 00:00:00 GMT")]),
    "/large": answer(b"x" * LARGE_BYTES, headers=[TEXT, ("Content-Length", str(LARGE_BYTES))]),
    "/short": answer(b"abc", b"d", headers=FIVE_BYTES),
    "/long": answer(b"abc", b"defgh", headers=FIVE_BYTES),
    "/write": write,
    "/echo": echo,
    "/environ": show_environ,
    "/held": stream(held_pieces),
    "/stream": stream(lambda: pieces(3)),
    "/cut": stream(lambda: itertools.chain(pieces(2), failing())),
    "/endless": stream(lambda: pieces(10**9)),
}
plain = answer(b"plain")


def app(environ, start_response):
    return APPLICATIONS.get(environ["PATH_INFO"], plain)(environ, start_response)


def checked(environ, start_response):
    return validator(app)(environ, start_response)


app.extensions = {
    "service": SimpleNamespace(
        telemetry=Telemetry(),
        probe_paths=frozenset(),
        model_name="none",
        model=SimpleNamespace(version="0"),
    )
}
checked.extensions = app.extensions
