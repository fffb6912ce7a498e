"""The applications and commands that bench/serve.py compares with this service."""

import dataclasses
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))
PORT = 5801


class NoTelemetry:
    """A stand-in for the telemetry whose methods do nothing."""

    def __getattr__(self, _):
        return lambda *_: None


def without_telemetry():
    """Return the service without counters, clocks, request ids and request log."""
    from app import create_app, finish_request, start_request
    from serving.api.service import service_of

    app = create_app()
    service = service_of(app)
    app.before_request_funcs[None].remove(start_request)
    app.after_request_funcs[None].remove(finish_request)
    app.extensions["service"] = dataclasses.replace(service, telemetry=NoTelemetry())
    return app


def constant():
    """Return the smallest Flask application: it reads the body and returns the same bytes."""
    from flask import Flask, Response, request

    app = Flask(__name__)
    app.extensions["service"] = SimpleNamespace(
        telemetry=NoTelemetry(),
        probe_paths=frozenset(),
        model_name="none",
        model=SimpleNamespace(version="0"),
    )

    @app.post("/predict")
    def predict():
        request.get_data()
        return Response(b'{"prediction":[0]}\n', mimetype="application/json")

    return app


def asgi():
    """Return the service as an ASGI application that runs in the server's event loop."""
    from app import app

    class Adapter:
        extensions = app.extensions

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            message = await receive()
            body = message["body"]
            while message["more_body"]:
                message = await receive()
                body += message["body"]
            environ = {
                "REQUEST_METHOD": scope["method"],
                "SCRIPT_NAME": "",
                "PATH_INFO": scope["path"],
                "QUERY_STRING": scope["query_string"].decode("latin-1"),
                "SERVER_NAME": scope["server"][0],
                "SERVER_PORT": str(scope["server"][1]),
                "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(body),
                "wsgi.input_terminated": True,
                "wsgi.errors": sys.stderr,
            }
            for name, value in scope["headers"]:
                key = name.decode("latin-1").upper().replace("-", "_")
                environ[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = value.decode(
                    "latin-1"
                )
            started = []
            pieces = app(environ, lambda *words: started.extend(words))
            headers = [(name.lower().encode(), value.encode()) for name, value in started[1]]
            await send(
                {"type": "http.response.start", "status": int(started[0][:3]), "headers": headers}
            )
            await send({"type": "http.response.body", "body": b"".join(pieces)})
            if hasattr(pieces, "close"):
                pieces.close()

    return Adapter()


def gunicorn(app, *options, level="warning", workers=1):
    """Return a command, and its environment."""
    command = [sys.executable, "-m", "gunicorn", "--pythonpath", "bench", *options, app]
    variables = {"PORT": str(PORT), "WEB_CONCURRENCY": str(workers), "LOG_LEVEL": level}
    return command, os.environ | variables


def granian(log="--no-access-log"):
    """Return a command, and its environment."""
    options = ["--interface", "wsgi", "--port", str(PORT), log, "app:app"]
    return [sys.executable, "-m", "granian", *options], os.environ | {"PORT": str(PORT)}


UVICORN_WORKER = "uvicorn_worker.UvicornWorker"
OURS = gunicorn("app:app")
VARIANTS = {
    "everything": OURS,
    "without telemetry": gunicorn("variants:without_telemetry()"),
    "with a log line for each request": gunicorn("app:app", level="info"),
    "a view that returns a constant": gunicorn("variants:constant()"),
}
# They need `.venv/bin/python -m pip install gevent uvicorn-worker httptools uvloop granian`.
SERVERS = {
    "gunicorn, sync": gunicorn("app:app", "--worker-class", "sync"),
    "gunicorn, gthread": gunicorn("app:app", "--worker-class", "gthread"),
    "gunicorn, gevent": gunicorn("app:app", "--worker-class", "gevent"),
    "gunicorn, asgi, the application in the loop": gunicorn(
        "variants:asgi()", "--worker-class", "asgi"
    ),
    "uvicorn's worker, the application in the loop": gunicorn(
        "variants:asgi()", "--worker-class", UVICORN_WORKER
    ),
    "Granian": granian(),
}
