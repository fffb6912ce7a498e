"""What a consumer shows on its port: the service's metrics of the model, drift, liveness."""

import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_iris

import serving.streams.consumer
from batches import MODEL
from consumers import SETOSA_BODY, wait_for_length
from helpers import JSON
from serving.monitoring.telemetry import Telemetry
from serving.streams.consumer import Consumer
from serving.streams.messages import Broker
from serving.streams.metrics import create_app
from serving.streams.scoring import MessageScorer

# What is about requests of HTTP.
SERVICE_FAMILIES = ("http_",)


def read_families(text):
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def read_samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in read_families(text).values()
        for sample in family.samples
    }


def test_metrics_of_model_are_those_of_service(server, consume, call):
    """The rows of messages are counted in the same series as those of requests."""
    rows = load_iris().data.tolist()
    bodies = [b'{"features": %b}' % str(row).encode() for row in rows]
    server.add("in", [*bodies, b"nope"])
    consumer = consume(server.url("in"), server.url("out"))
    wait_for_length(server, "out", len(bodies) + 1)

    before = read_samples(call("GET", "/metrics").body)
    call("POST", "/predict", b'{"features": %b}' % str(rows).encode(), JSON)
    after = call("GET", "/metrics").body
    shown = read_samples(consumer.call("/metrics").body)
    compared = 0
    for key, value in read_samples(after).items():
        if key[0] in ("rows_total", "feature_rows_total", "predictions_total"):
            assert shown[key] == value - before.get(key, 0), key
            compared += 1
    assert compared > 20

    families = read_families(after)
    expected = {name for name in families if not name.startswith(SERVICE_FAMILIES)}
    assert expected <= read_families(consumer.call("/metrics").body).keys()


def test_drift_is_that_of_service(server, consume):
    """The drift report has the rows that were scored."""
    server.add("in", [SETOSA_BODY] * 300 + [b"nope"])
    consumer = consume(server.url("in"), server.url("out"))
    wait_for_length(server, "out", 301)
    report = consumer.call("/drift").json
    assert (report["rows"], report["verdict"]) == (300, "drifting")


def test_lag_counts_unanswered_messages(server, consume):
    """The lag is what nobody has read, and what was read and not acknowledged."""
    server.add("in", [SETOSA_BODY] * 10)
    server.cli("XGROUP", "CREATE", "in", "ml-model", "0")
    server.cli("XREADGROUP", "GROUP", "ml-model", "other", "COUNT", "4", "STREAMS", "in", ">")
    consumer = consume(server.url("in"), server.url("out"))
    wait_for_length(server, "out", 6)
    deadline = time.monotonic() + 30
    while b'stream_lag{broker="redis"} 4.0\n' not in consumer.call("/metrics").body:
        assert time.monotonic() < deadline
        time.sleep(0.2)


class HangingBroker(Broker):
    """A broker whose answer never comes."""

    kind = "none"
    n_taken_over = 0
    n_deleted = 0

    def __init__(self):
        self.released = threading.Event()

    def read(self):
        self.released.wait()
        return []


@pytest.fixture
def hanging_consumer():
    broker = HangingBroker()
    consumer = Consumer(broker, MessageScorer(MODEL, False, 1000), "s")
    thread = threading.Thread(target=consumer.run)
    thread.start()
    yield consumer
    consumer._is_stopping = True
    broker.released.set()
    thread.join()


def test_hanging_consumer_is_not_alive(hanging_consumer, monkeypatch):
    """A loop that makes no turn is reported, so that Kubernetes restarts the container."""
    client = create_app(hanging_consumer, Telemetry({}, MODEL, set())).test_client()
    assert client.get("/healthz").get_json() == {"status": "alive"}
    monkeypatch.setattr(serving.streams.consumer, "HANGING_SECONDS", 0.1)
    time.sleep(0.2)
    response = client.get("/healthz")
    assert response.status_code == 503
    assert response.get_json() == {"error": "the consumer hangs"}
