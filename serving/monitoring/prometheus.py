"""Prometheus metrics, from the counters of all workers."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from serving.monitoring.counters import DURATION_BUCKETS
from serving.monitoring.metric_families import make_metric
from serving.monitoring.model_metrics import ModelMetrics
from serving.monitoring.telemetry import Telemetry

ALWAYS_EXPOSED_STATUSES = (200, 500)


class MetricsRegistry(CollectorRegistry):
    """Every metric of one service, the same from each of its workers."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self.telemetry = telemetry
        self._model_metrics = ModelMetrics(telemetry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that `accept` prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        yield self._requests_metric()
        yield self._durations_metric()
        yield from self._model_metrics.collect()
        yield from self._process_metrics()

    def _requests_metric(self) -> Metric:
        requests = self.telemetry.requests
        samples = []
        for (route, method, status), count in requests.requests():
            # `increase` misses the first request of a new series. So the usual series are there
            # from the start, but not all that are possible.
            is_route_method = method in requests.methods_by_route.get(route, ())
            if count or (is_route_method and status in ALWAYS_EXPOSED_STATUSES):
                labels = {"method": method, "route": route, "status": str(status)}
                samples.append((labels, count))
        return make_metric("counter", "http_requests", "HTTP requests", samples)

    def _durations_metric(self) -> Metric:
        requests = self.telemetry.requests
        metric = HistogramMetricFamily(
            "http_request_duration_seconds", "HTTP request duration in seconds", labels=["route"]
        )
        bounds = [*map(str, DURATION_BUCKETS), "+Inf"]
        for durations in requests.durations():
            # A route without POST describes or probes; it is left out until it is requested.
            is_probe = "POST" not in requests.methods_by_route.get(durations.route, {"POST"})
            if is_probe and not durations.bucket_counts.any():
                continue
            cumulative_counts = np.cumsum(durations.bucket_counts).tolist()
            buckets = list(zip(bounds, cumulative_counts, strict=True))
            metric.add_metric([durations.route], buckets, durations.total_seconds)
        return metric

    def _process_metrics(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        in_flight = 0
        for worker in self.telemetry.requests.workers():
            collector = ProcessCollector(pid=partial(int, worker.pid), registry=None)
            metrics = list(collector.collect())
            if not metrics:
                continue  # the process has ended, and its requests in flight with it
            in_flight += worker.in_flight
            add_worker_samples(families, metrics, str(worker.slot))

        yield make_metric(
            "gauge", "http_requests_in_flight", "HTTP requests in flight", [({}, in_flight)]
        )
        yield from families.values()


def add_worker_samples(families: dict[str, Metric], metrics: list[Metric], worker: str) -> None:
    """Add the samples of one process to `families`, with the label `worker`."""
    for metric in metrics:
        family = families.get(metric.name)
        if family is None:
            family = Metric(metric.name, metric.documentation, metric.type)
            families[metric.name] = family
        for sample in metric.samples:
            family.add_sample(sample.name, {"worker": worker}, sample.value)
