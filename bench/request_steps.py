"""Name where the time of a request goes: one row to each of four models, with its line of log.

Prints the processor time of each step, measured alone, and the rest of that of a request under
load: the event loop and the kernel. All are relative to a request to the shipped model. Needs wrk
and two cores.
"""

import asyncio
import gc
import io
import logging.config
import math
import os
import sys
import tempfile
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from app import create_app
from examples import example_body
from load import cpu_seconds, post_script, run_wrk, serve
from models import train_models
from serving.api.decoders import PredictDecoder
from serving.api.messages import json_response, read_body, version_header
from serving.api.service import service_of
from serving.monitoring.log_handler import LineHandler
from serving.monitoring.request_log import RequestLog, current_request, logging_config
from serving.server.application import call_application
from serving.server.body_buffer import BufferBudget
from serving.server.http11 import Connection
from variants import gunicorn

HEAD = (
    "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)
ROUNDS = 500
CALLS = 20


class StubTransport:
    """A transport that sends nothing."""

    def get_extra_info(self, _):
        """Return an address."""
        return "127.0.0.1", 5000


class StubWorker:
    """The limits and the memory that a connection takes from its worker."""

    max_clients = max_fields = 100
    max_line_bytes = max_field_bytes = 8190
    max_body_bytes = 2**20

    def __init__(self):
        self.connections = set()
        self.buffer_budget = BufferBudget()
        self.environ = {
            "SCRIPT_NAME": "",
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
            "wsgi.input_terminated": True,
        }


def main():
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in train_models(Path(folder)).items():
            body = example_body(path)
            steps = asyncio.run(measure_steps(path, body.encode()))
            total = measure_under_load(path, body) * 1e6
            steps["event loop and kernel: receive, send, wait"] = total - sum(steps.values())
            steps["processor time of a request under load"] = total
            columns[name] = steps

    base = next(iter(columns.values()))["processor time of a request under load"]
    print(f"| Step | {' | '.join(columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    for step in steps:
        cells = [f"{steps[step] / base:.2f}" for steps in columns.values()]
        print(f"| {step} | {' | '.join(cells)} |")
    print(f"1.00 is {base:.0f} microseconds")


async def measure_steps(path, body):
    """Return the microseconds of each step, those of whole calls without the steps inside them."""
    connection = Connection(StubWorker())
    connection.connection_made(StubTransport())
    reader = connection.reader
    data = HEAD.format(len(body)).encode() + body

    def parse():
        reader.read(data, 0)
        environ = reader.request
        reader.forget_request()
        reader.body_buffer.release()
        return environ

    environ = parse()
    app = create_app(MODEL_PATH=str(path), LOG_LEVEL="info")
    service = service_of(app)
    telemetry = service.telemetry
    logging.disable()  # the line is measured below
    gc.collect()
    gc.freeze()  # as gunicorn.conf.py does

    def call(function):
        environ["wsgi.input"] = io.BytesIO(body)
        return function()

    with app.request_context(environ):
        current_request().id = "0" * 32
        decoder = service.decoder(PredictDecoder)
        rows, _ = decoder.decode(body)
        predictions = service.model.predict(rows)
        answer = {"prediction": predictions.tolist()}
        response = json_response(answer, version_header())

        def respond():
            return json_response(answer, version_header())(environ, lambda *_: None)

        microseconds = clock(
            {
                "whole": lambda: call(lambda: call_application(app, environ)),
                "flask": lambda: call(lambda: app(environ, lambda *_: None)),
                "parse the request": parse,
                "read and decode the body": lambda: call(lambda: decoder.decode(read_body())),
                "predict": lambda: service.model.predict(rows),
                "count the row for drift": lambda: telemetry.record_predictions(rows, predictions),
                "build and send the response": respond,
                "request id, counters": lambda: count_request(telemetry, response),
            }
        )
        line = clock({"line": log_function()})["line"]

    whole = microseconds.pop("whole")
    flask = microseconds.pop("flask")
    in_flask = sum(microseconds.values()) - microseconds["parse the request"]
    microseconds["Flask: route, contexts, dispatch"] = flask - in_flask
    microseconds["worker: call, head of the response"] = whole - flask
    microseconds["line of log"] = line
    return microseconds


def count_request(telemetry, response):
    """Do what the telemetry does before and after a request."""
    telemetry.start_request()
    telemetry.finish_request(response)
    response.headers.remove("X-Request-ID")


def log_function():
    """Return a function that writes a line in the event loop."""
    logging.disable(logging.NOTSET)
    logging.config.dictConfig(logging_config("INFO", is_terminal=False))
    [handler] = logging.getLogger().handlers
    handler.setStream(os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    log = RequestLog()
    log.attach(asyncio.get_running_loop())
    assert isinstance(handler, LineHandler) and log.handler is handler

    def write():
        log.write(
            current_request(),
            route="/predict",
            status=200,
            seconds=0.000123456,
            model_version="0123456789ab",
            is_probe=False,
        )

    return write


def clock(functions):
    """Return the microseconds of a call of each, the least of measurements in turns."""
    least = dict.fromkeys(functions, math.inf)
    for _ in range(ROUNDS):
        for name, function in functions.items():
            seconds = timeit.timeit(function, number=CALLS)
            least[name] = min(least[name], seconds / CALLS * 1e6)
    return least


def measure_under_load(path, body):
    """Return the seconds of processor time of a request, the least of several measurements."""
    costs = []
    command, env = gunicorn("app:app", level="info")
    script = post_script(body)
    with serve(command, env | {"MODEL_PATH": str(path)}, body=body) as (process, _):
        run_wrk(1, script=script)
        for _ in range(5):
            before = cpu_seconds(process)
            load = run_wrk(2, script=script)
            costs.append((cpu_seconds(process) - before) / load.n_requests)
    return min(costs)


if __name__ == "__main__":
    main()
