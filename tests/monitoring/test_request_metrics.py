"""Request metrics: counted and timed exactly, over all workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app import create_app
from helpers import (
    EXAMPLE_REQUEST,
    JSON,
    NAMES,
    SETOSA,
    VERSION,
    assert_json,
    free_port,
    in_process,
    over_http,
    predict,
    scrape,
    wait_until,
)
from serving.api.service import service_of
from serving.monitoring.counters import DURATION_BUCKETS

APPS = Path(__file__).parent / "apps"


def gunicorn_command(app):
    return [sys.executable, "-m", "gunicorn", app]


def test_requests_are_counted_and_timed(call):
    """Each request counts by route, method and status, and in the buckets of its duration."""
    before = scrape(call)
    predict(call, features=SETOSA)
    predict(call, features="no")
    call("GET", "/predict")
    call("GET", "/nothing")
    call("BREW", "/coffee")
    samples = scrape(call)
    counts = {
        labels: n - before.get(labels, 0)
        for labels, n in samples.items()
        if labels[0] == "http_requests_total"
    }
    assert {labels[1:]: n for labels, n in counts.items() if n} == {
        ("POST", "/predict", "200"): 1,
        ("POST", "/predict", "400"): 1,
        ("GET", "other", "405"): 1,
        ("GET", "other", "404"): 1,
        ("other", "other", "404"): 1,
        ("GET", "/metrics", "200"): 1,
    }
    assert samples["http_request_duration_seconds_count", "/predict"] == 2
    assert samples["http_request_duration_seconds_count", "other"] == 3
    buckets = [
        samples["http_request_duration_seconds_bucket", str(le), "/predict"]
        for le in DURATION_BUCKETS
    ]
    assert buckets == sorted(buckets) and buckets[0] < 2 == buckets[-1]
    assert 0 < samples["http_request_duration_seconds_sum", "/predict"] < 10
    assert DURATION_BUCKETS[0] <= 100e-6 and DURATION_BUCKETS[-1] >= 10


def test_series_exist_before_first_event(call):
    """The series of an alert exist from the start."""
    # `increase` sees a series only from its second sample.
    samples = scrape(call)
    assert samples["http_requests_total", "POST", "/predict", "500"] == 0
    assert samples["predictions_total", "2", VERSION] == 0
    assert samples["feedback_total", "2", VERSION, "0"] == 0
    assert samples["feature_rows_total", "below", NAMES[0], VERSION] == 0


@pytest.mark.parametrize("kind", ["path", "method", "id"])
def test_client_values_share_one_series(call, kind):
    """A thousand invented paths, methods or ids make one new series."""

    def send_request(i):
        path, headers = (f"/x{i}", None) if kind == "path" else ("/x", {"X-Request-ID": f"x{i}"})
        call(f"M{i}" if kind == "method" else "GET", path, None, headers)

    scrape(call)
    before = scrape(call).keys()
    for i in range(1000):
        send_request(i)
    samples = scrape(call)
    [new] = samples.keys() - before
    assert samples[new] == 1000


class Interrupted:
    """Cells between whose reading and writing another thread comes in, as it may."""

    def __init__(self, cells):
        self.cells = cells

    def __getitem__(self, cell):
        value = self.cells[cell]
        time.sleep(0)
        return value

    def __setitem__(self, cell, value):
        self.cells[cell] = value


def test_threads_lose_no_count(app):
    """Threads of one worker that interrupt each other count exactly."""
    telemetry = service_of(app).telemetry
    telemetry.requests._cells = Interrupted(telemetry.requests._cells)
    telemetry.predictions._cells = Interrupted(telemetry.predictions._cells)

    def work():
        for _ in range(50):
            in_process(app, "POST", "/predict", EXAMPLE_REQUEST, JSON)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = scrape(lambda *request: in_process(app, *request))
    assert samples["http_requests_total", "POST", "/predict", "200"] == 400
    assert samples["rows_total", VERSION] == samples["predictions_total", "0", VERSION] == 400
    assert samples["http_requests_in_flight",] == 1  # the scrape itself


def test_counts_survive_workers(serve):
    """Counts are exact after workers are killed and after a reload."""
    service = serve(WEB_CONCURRENCY="2")
    wait_until(lambda: len(service.workers()) == 2)

    def send_requests():
        for _ in range(60):
            assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).status == 200

    def replaced(old):
        return len(service.workers()) == 2 and not set(old) & set(service.workers())

    send_requests()
    for victims, number in (
        (service.workers(), signal.SIGKILL),
        ([service.process.pid], signal.SIGHUP),
    ):
        before = service.workers()
        for pid in victims:
            os.kill(pid, number)
        wait_until(lambda before=before: replaced(before))
        send_requests()
    expected = 180
    for _ in range(8):  # each worker answers some of these
        samples = scrape(service.call)
        assert samples["http_requests_total", "POST", "/predict", "200"] == expected
        assert samples["rows_total", VERSION] == expected
        assert samples["http_request_duration_seconds_count", "/predict"] == expected
        assert samples["http_requests_in_flight",] == 1
        memory = [
            value
            for labels, value in samples.items()
            if labels[0] == "process_resident_memory_bytes"
        ]
        assert len(memory) == 3 and min(memory) > 1e6  # two workers and the master


def test_in_flight_is_seen_by_all_workers(serve, tmp_path):
    """Each worker reports the requests in flight of all workers."""
    service = serve(
        command=gunicorn_command("waiting_app:app"),
        PYTHONPATH=str(APPS),
        SIGNAL_DIRECTORY=str(tmp_path),
        WEB_CONCURRENCY="2",
    )
    wait_until(lambda: len(service.workers()) == 2)
    thread = threading.Thread(target=service.call, args=("GET", "/waiting"))
    thread.start()
    # From here on one worker is blocked, so that it accepts no connection and the other one does.
    wait_until((tmp_path / "begun").exists)

    for _ in range(8):
        assert scrape(service.call)["http_requests_in_flight",] == 2

    (tmp_path / "released").touch()
    thread.join()
    wait_until(lambda: scrape(service.call)["http_requests_in_flight",] == 1)


def test_in_flight_ignores_ended_processes(app, monkeypatch):
    """The requests in flight of a killed worker are not reported."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    requests = service_of(app).telemetry.requests
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: ended.pid)
        requests.attach(5)
        for _ in range(3):
            requests.begin()

    requests.attach(0)
    assert scrape(lambda *request: in_process(app, *request))["http_requests_in_flight",] == 1


def test_excess_workers_share_last_row(app):
    """A worker beyond the last row still counts."""
    telemetry = service_of(app).telemetry
    telemetry.attach(10**6)

    def call(*request):
        return in_process(app, *request)

    predict(call, features=SETOSA)
    assert scrape(call)["rows_total", VERSION] == 1


def test_metrics_port_serves_admin_paths_alone(serve):
    """METRICS_PORT serves /metrics and /drift, and PORT no longer does."""
    port = free_port()
    service = serve(METRICS_PORT=port, API_KEYS="one")
    for path in ("/metrics", "/drift"):
        assert service.call("GET", path).status == 404
        # What a client says of the host is not where it came in.
        spoofed = service.call(
            "GET", path, None, {"Host": f"localhost:{port}", "Authorization": "Bearer one"}
        )
        assert_json(spoofed, 404, {"error": f"GET {path}: Not Found"})
        assert over_http(f"127.0.0.1:{port}", "GET", path).status == 200
    for path in ("/", "/healthz", "/readyz"):
        assert over_http(f"127.0.0.1:{port}", "GET", path).status == 404
    assert over_http(f"127.0.0.1:{port}", "POST", "/predict", EXAMPLE_REQUEST, JSON).status == 404
    index = service.call("GET", "/", None, {"Authorization": "Bearer one"}).json
    assert not {"/metrics", "/drift"} & {route["path"] for route in index["routes"]}


def test_admin_paths_need_key():
    """Without METRICS_PORT the admin paths need an API key."""
    app = create_app(API_KEYS="one")
    for path in ("/metrics", "/drift"):
        assert in_process(app, "GET", path).status == 401
        assert in_process(app, "GET", path, None, {"Authorization": "Bearer one"}).status == 200


def test_open_metrics_on_request(call):
    """The Accept header selects the OpenMetrics format."""
    answer = call(
        "GET", "/metrics", None, {"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")
