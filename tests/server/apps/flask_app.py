"""The service with views as Flask's documentation shows them: streams, files, views that wait."""

import asyncio
import os
import threading
import time
from pathlib import Path

from flask import request, send_file, stream_with_context

from app import create_app

app = create_app()
HOLD_FILE = Path(os.environ["HOLD_FILE"])


@app.before_request
def read_body_before():
    if request.headers.get("X-Read-Body") == "before":
        request.get_data()


@app.after_request
def read_body_after(response):
    if "X-Read-Body" in request.headers:
        response.headers["X-Body"] = request.get_data(as_text=True)
    return response


def wait_for_file():
    while HOLD_FILE.exists():
        time.sleep(0.001)


@app.get("/thread")
def thread():
    """Return the name of the thread, after a sleep."""
    time.sleep(float(request.args.get("sleep", 0)) or 0)
    return threading.current_thread().name


@app.get("/quick")
def quick():
    """Return the name of the thread; compute for 20 ms first if `slow` is set."""
    end = time.thread_time() + 0.02 * request.args.get("slow", 0, int)
    while time.thread_time() < end:
        pass
    return threading.current_thread().name


@app.get("/asyncio-run")
def asyncio_run():
    """Return the name of the thread, from a coroutine."""
    return asyncio.run(coroutine())


@app.get("/coroutine")
async def coroutine():
    return threading.current_thread().name


@app.get("/wait")
def wait():
    wait_for_file()
    return "waited"


@app.get("/compute")
def compute():
    while HOLD_FILE.exists():
        sum(range(1000))
    return "computed"


@app.get("/events")
def events():
    def generate():
        wait_for_file()
        yield "data: 1\n\n"

    return generate(), {"Content-Type": "text/event-stream"}


@app.get("/context")
def context():
    @stream_with_context
    def generate():
        for name in ("a", "b", "c"):
            yield request.args[name]

    return generate()


@app.get("/file")
def file():
    return send_file(os.environ["LARGE_FILE"], mimetype="application/octet-stream")


@app.get("/broken-stream")
def broken_stream():
    def generate():
        raise ZeroDivisionError
        yield ""

    return generate()
