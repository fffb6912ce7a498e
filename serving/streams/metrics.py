"""What a consumer shows: liveness, drift, and metrics with those of the service's model."""

import logging
import socket
import threading
from collections.abc import Iterator

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from werkzeug.serving import make_server

from serving.api.messages import json_response
from serving.monitoring.metric_families import Sample, make_metric
from serving.monitoring.model_metrics import ModelMetrics
from serving.monitoring.telemetry import Telemetry
from serving.streams.consumer import Consumer


class StreamMetrics(CollectorRegistry):
    """Every metric of a consumer."""

    def __init__(self, consumer: Consumer, telemetry: Telemetry) -> None:
        super().__init__()
        self._consumer = consumer
        self._model_metrics = ModelMetrics(telemetry)
        self._process_collector = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        yield from self._stream_metrics()
        yield from self._model_metrics.collect()
        yield from self._process_collector.collect()

    def _stream_metrics(self) -> Iterator[Metric]:
        consumer = self._consumer
        counts = consumer.scorer.counts
        outcomes = {"scored": counts.scored, "rejected": counts.rejected, "failed": counts.failed}
        samples = [({"outcome": outcome}, float(count)) for outcome, count in outcomes.items()]
        yield make_metric("counter", "stream_messages", "Messages answered, by outcome", samples)

        lag_samples: list[Sample] = []
        if consumer.lag is not None:
            lag_samples.append(({"broker": consumer.broker.kind}, float(consumer.lag)))
        lag_help = "Messages without an answer: of the group, or of this consumer's partitions"
        yield make_metric("gauge", "stream_lag", lag_help, lag_samples)

        up_help = "1 while the broker can be used"
        yield make_metric("gauge", "stream_broker_up", up_help, [({}, consumer.is_connected)])

        broker = consumer.broker
        counters = (
            ("stream_broker_outages", "Outages of the broker", consumer.n_outages),
            (
                "stream_taken_over",
                "Messages taken over from consumers that died",
                broker.n_taken_over,
            ),
            (
                "stream_deleted",
                "Messages deleted from the stream after they were read, before an answer",
                broker.n_deleted,
            ),
        )
        for name, help_text, count in counters:
            yield make_metric("counter", name, help_text, [({}, count)])


def create_app(consumer: Consumer, telemetry: Telemetry) -> Flask:
    """Return the routes of a consumer."""
    app = Flask(__name__, static_folder=None)
    registry = StreamMetrics(consumer, telemetry)

    @app.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    @app.get("/drift")
    def drift() -> Response:
        return json_response(telemetry.drift_report())

    @app.get("/healthz")
    def healthz() -> Response:
        if consumer.is_alive:
            return json_response({"status": "alive"})
        response = json_response({"error": "the consumer hangs"})
        response.status_code = 503
        return response

    return app


def serve_in_background(app: Flask, port: int) -> None:
    """Serve on a port of all interfaces, in a thread that ends with the process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each scrape
    if socket.has_dualstack_ipv6():
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listener = socket.create_server(("", port))
    host, *_ = listener.getsockname()
    server = make_server(host, port, app, threaded=True, fd=listener.detach())
    threading.Thread(target=server.serve_forever, daemon=True).start()
