"""`worker_class = "gthread"`: the same answers, counters, drift, reload and metrics port."""

import http.client
import signal

import pytest

from connections import gunicorn_with
from endpoints import CLASSES, ENDPOINTS, PROBE_PATHS, ROWS
from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    VERSION,
    Client,
    free_port,
    over_http,
    scrape,
    wait_until,
)

GTHREAD = gunicorn_with(worker_class="gthread")


@pytest.fixture
def gthread(serve):
    """Return the service under gthread, with two workers."""
    return serve(command=GTHREAD, WEB_CONCURRENCY="2")


def test_endpoints_answer(gthread):
    """Every platform's endpoint predicts, and every probe succeeds."""
    for endpoint in ENDPOINTS.values():
        response = gthread.call("POST", endpoint.path, endpoint.encode(ROWS), JSON)
        assert response.status == 200
        assert endpoint.read_predictions(response.json) == CLASSES
    for path in ("/healthz", "/readyz", *PROBE_PATHS):
        assert gthread.call("GET", path).status == 200


def test_errors_are_the_same(gthread):
    """An invalid row and a body beyond the limit are answered as under the default worker."""
    response = gthread.call("POST", "/predict", b'{"features":[1]}', JSON)
    assert response.status == 400
    response = gthread.call("POST", "/predict", b" " * (2**20 + 1), JSON)
    assert response.status == 413


def test_counters_are_sums_over_workers(gthread):
    """Requests, rows and drift are counted whichever worker and thread handles them."""
    for _ in range(50):
        assert gthread.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    samples = scrape(gthread.call)
    assert samples["http_requests_total", "POST", "/predict", "200"] == 50
    assert samples["rows_total", VERSION] == 50
    assert gthread.call("GET", "/drift").json["rows"] == 50


def test_metrics_port_is_separate(serve):
    """METRICS_PORT serves the metrics, and the public port does not."""
    port = free_port()
    service = serve(command=GTHREAD, METRICS_PORT=port, API_KEYS="one")
    assert service.call("GET", "/metrics").status == 404
    assert over_http(f"127.0.0.1:{port}", "GET", "/metrics").status == 200
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).status == 401


def test_reload_keeps_counters(gthread):
    """New workers after SIGHUP continue the counters, and a request that has begun is answered."""
    client = Client(gthread.address)
    client.start()
    wait_until(lambda: len(client.answers) > 20)
    before = set(gthread.workers())
    gthread.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(gthread.workers()) == 2 and not before & set(gthread.workers()))

    client.join(30)
    assert not isinstance(client.fault, http.client.IncompleteRead)
    assert set(client.answers) == {EXAMPLE_RESPONSE}
    samples = scrape(gthread.call)
    n_counted = samples["http_requests_total", "POST", "/predict", "200"]
    assert n_counted >= len(client.answers)
