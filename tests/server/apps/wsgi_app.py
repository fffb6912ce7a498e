"""WSGI applications with unusual responses; `checked` runs under the reference validator."""

import itertools
import sys
from types import SimpleNamespace
from wsgiref.validate import validator


class Telemetry:
    """Stands in for the telemetry that gunicorn.conf.py attaches."""

    def attach(self, slot):
        """Count nothing."""


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/broken":
        raise ZeroDivisionError
    if path == "/split":
        start_response("200 OK", [("Content-Type", "text/plain"), ("X", "a\nb: c")])
        return [b"x"]
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/write":
        write(b"one")
        return [b"two"]
    if path == "/echo":
        return [environ["wsgi.input"].read(9), environ["wsgi.input"].read(9)]
    if path == "/stream":
        return pieces(3)
    if path == "/cut":
        return itertools.chain(pieces(2), failing())
    if path == "/endless":
        return pieces(10**9)
    return [b"plain"]


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


def valid(environ, start_response):
    return validator(application)(environ, start_response)


app = application
app.extensions = {"service": SimpleNamespace(telemetry=Telemetry())}
checked = valid
checked.extensions = app.extensions
