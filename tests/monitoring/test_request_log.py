"""The request log: one line for each request, with its ids and without its features."""

import http.client
import re
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from app import create_app
from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    ROOT,
    VERSION,
    VIRGINICA,
    Client,
    Service,
    environment,
    free_port,
    gunicorn,
    in_process,
    wait_until,
)
from serving.api.service import service_of
from serving.monitoring.log_handler import MAX_WAITING_BYTES

APPS = Path(__file__).parent / "apps"


def gunicorn_command(app):
    return [sys.executable, "-m", "gunicorn", app]


TRACE = "0af7651916cd43dd8448eb211c80319c"


MEMBERS = [
    "level",
    "logger",
    "message",
    "method",
    "route",
    "status",
    "ms",
    "rows",
    "model_version",
    "request_id",
    "trace_id",
    "time",
]


def lines(service, logger="serving.monitoring.request_log"):
    """Return what a stopped service logged, each line decoded."""
    records = [msgspec.json.decode(line) for line in service.log.splitlines()]
    return [line for line in records if line["logger"] == logger]


@pytest.mark.parametrize("worker_class", ["serving.server.worker.Worker", "gthread"])
def test_request_is_one_json_line(serve, worker_class):
    """The line has the ids and the numbers of the request, and nothing of its content."""
    arguments = f"--worker-class {worker_class}"
    service = serve(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS=arguments)
    headers = JSON | {"X-Request-ID": "abc", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    service.call(
        "POST",
        "/predict",
        b'{"features":[[5.12500125, 3.5, 1.4, 0.2], [5.12500125, 3.5, 1.4, 0.2]]}',
        headers,
    )
    service.call(
        "POST",
        "/predict",
        b'{"features":[[5.12500125, 3.5, "9.75000975", 0.2]]}',
        JSON | {"traceparent": f"00-{TRACE}"},
    )
    service.call(
        "GET", "/secret-path?and=query", None, {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01x"}
    )
    service.call("GET", "/healthz")
    service.call("GET", "/metrics")
    service.stop()
    good, bad, missing = lines(service)
    assert list(good) == MEMBERS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", good.pop("time"))
    assert 0 < good.pop("ms") < 1e4 and re.fullmatch(
        r"POST /predict 200 in [0-9.]+ ms", good.pop("message")
    )
    assert good == {
        "level": "INFO",
        "logger": "serving.monitoring.request_log",
        "request_id": "abc",
        "trace_id": TRACE,
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "rows": 2,
        "model_version": VERSION,
    }
    assert (bad["status"], bad["rows"]) == (400, 0) and "trace_id" not in bad
    assert re.fullmatch("[0-9a-f]{32}", bad["request_id"])
    assert (missing["status"], missing["route"]) == (404, "other") and "trace_id" not in missing
    assert not re.search(r"5\.12500125|9\.75000975|secret|query", service.log)
    assert "listening at" in lines(service, "gunicorn.error")[1]["message"].lower()


def test_failing_probes_are_logged(caplog, monkeypatch):
    """A probe is logged only if it fails."""
    monkeypatch.setattr("serving.api.service.SELF_TEST_SECONDS", 0.0)
    app = create_app(API_KEYS="one")

    def call(*request):
        return in_process(app, *request)

    with caplog.at_level("INFO"):
        call("GET", "/readyz")
        assert not caplog.records
        service_of(app).model.card.reference[0].features[:] = VIRGINICA
        call("GET", "/readyz")
        call("GET", "/metrics")
    records = [
        record for record in caplog.records if record.name == "serving.monitoring.request_log"
    ]
    assert [(record.levelname, record.status) for record in records] == [
        ("ERROR", 503),
        ("INFO", 401),
    ]


def test_unexpected_error_is_logged(serve):
    """An unexpected error is logged with its traceback and request id, and answered 500."""
    service = serve(
        command=gunicorn_command("broken_app:app"), PYTHONPATH=str(APPS), WEB_CONCURRENCY="1"
    )
    answer = service.call("GET", "/broken", None, {"X-Request-ID": "abc"})
    assert answer.status == 500
    assert answer.json == {"error": "Internal Server Error"}

    service.stop()
    [error] = lines(service, "app")
    assert (error["level"], error["request_id"]) == ("ERROR", "abc")
    assert "ZeroDivisionError: division by zero" in error["exc_info"]
    assert "in broken" in error["exc_info"]
    [line] = lines(service)
    assert (line["level"], line["status"], line["request_id"]) == ("ERROR", 500, "abc")


def test_log_level_is_obeyed(serve):
    """At level warning a request is not logged."""
    service = serve(LOG_LEVEL="warning", PORT=free_port())  # it does not say which it took
    service.call("POST", "/predict", EXAMPLE_REQUEST, JSON)
    service.stop()
    assert "POST" not in service.log


class PausedService(Service):
    """A service whose stderr nobody reads, until `read` is called."""

    is_read = threading.Event()

    def _read(self):
        for line in self.process.stderr:
            self.log += line
            if "Booting worker" in line:
                self.is_read.wait(60)


def test_full_pipe_makes_no_request_wait():
    """While nobody reads the log, lines wait, and are dropped and counted beyond a limit."""
    PausedService.is_read.clear()
    service = PausedService(gunicorn(), ROOT, environment(WEB_CONCURRENCY="1"))
    client = http.client.HTTPConnection(service.address, timeout=10)
    n_requests = 2 * MAX_WAITING_BYTES // 250
    for _ in range(n_requests):
        client.request("POST", "/predict", EXAMPLE_REQUEST, JSON)
        assert client.getresponse().read() == EXAMPLE_RESPONSE

    PausedService.is_read.set()
    wait_until(lambda: "were dropped" in service.log)
    client.close()
    assert service.stop() == 0
    n_lines = len(lines(service))
    [dropped] = lines(service, "serving.monitoring.log_handler")
    assert n_lines > 3000
    assert dropped["message"] == (
        f"{n_requests - n_lines} lines of this log were dropped: stderr was full"
    )


def test_stopping_worker_loses_no_line(serve):
    """Each request that was answered has its line, when workers end in the middle of a load."""
    service = serve(WEB_CONCURRENCY="2")
    clients = [Client(service.address) for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.answers) > 50 for client in clients))
    service.stop()
    for client in clients:
        client.join(30)
    assert len(lines(service)) == sum(len(client.answers) for client in clients)


@pytest.mark.parametrize("change", ["filter", "factory"])
def test_change_of_the_application_sees_requests(serve, change):
    """A filter or a record factory that the application adds sees the record of each request."""
    service = serve(
        command=gunicorn_command("logging_app:app"),
        PYTHONPATH=str(APPS),
        WEB_CONCURRENCY="1",
        CHANGE=change,
    )
    service.call("POST", "/predict", EXAMPLE_REQUEST, JSON)
    service.stop()
    [line] = lines(service)
    assert (line["tenant"], line["status"]) == ("seen", 200)


def test_level_of_the_handler_is_obeyed(serve):
    """A handler that the application lets pass errors only writes no other request."""
    service = serve(
        command=gunicorn_command("logging_app:app"),
        PYTHONPATH=str(APPS),
        WEB_CONCURRENCY="1",
        CHANGE="level",
        PORT=free_port(),  # it does not say which it took
    )
    service.call("POST", "/predict", EXAMPLE_REQUEST, JSON)
    service.stop()
    assert lines(service) == []
