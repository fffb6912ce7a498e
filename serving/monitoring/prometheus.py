"""Prometheus metrics, from the counters of all workers."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from serving.monitoring.bins import bin_labels
from serving.monitoring.counters import DURATION_BUCKETS
from serving.monitoring.drift import chi2_bound, smoothed_shares
from serving.monitoring.telemetry import Telemetry

ALWAYS_EXPOSED_STATUSES = (200, 500)
DRIFT_BOUND_HELP = "Bound that PSI / (1/rows + 1/reference rows) exceeds by chance"

Sample = tuple[dict[str, str], float]  # labels and value


class MetricsRegistry(CollectorRegistry):
    """Every metric of one service, the same from each of its workers."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self.telemetry = telemetry
        self.version = {"model_version": telemetry.model_version}

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that `accept` prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        yield self._requests_metric()
        yield self._durations_metric()
        yield from self._prediction_metrics()
        yield from self._model_metrics()
        yield from self._feature_reference_metrics()
        yield from self._class_reference_metrics()
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

    def _prediction_metrics(self) -> Iterator[Metric]:
        counters = self.telemetry.predictions
        totals = counters.totals()
        yield make_metric("counter", "rows", "Rows scored", [(self.version, totals.n_rows)])

        class_labels = [{"class": str(value)} for value in counters.classes]
        yield self._versioned_metric(
            "counter", "predictions", "Rows by predicted class", class_labels, totals.by_class
        )
        yield self._versioned_metric(
            "counter",
            "feature_rows",
            "Rows scored, by feature and reference bin",
            self._bin_labels(),
            totals.by_bin,
        )

        feedback_labels = []
        for predicted in counters.classes:
            for actual in counters.classes:
                feedback_labels.append({"predicted": str(predicted), "actual": str(actual)})
        yield self._versioned_metric(
            "counter",
            "feedback",
            "Rows with ground-truth feedback, by predicted and actual class",
            feedback_labels,
            counters.feedback_totals().ravel(),
        )

    def _model_metrics(self) -> Iterator[Metric]:
        telemetry = self.telemetry
        yield self._versioned_metric(
            "gauge", "model_info", "Served model", [{"name": telemetry.model_name}], [1]
        )
        yield make_metric(
            "gauge",
            "model_last_reload_successful",
            "1 if the last model reload succeeded",
            [({}, not telemetry.reload_error)],
        )
        if telemetry.reference.accuracy is not None:
            yield make_metric(
                "gauge",
                "model_accuracy_reference",
                "Cross-validated accuracy from the model card",
                [(self.version, telemetry.reference.accuracy)],
            )
        yield make_metric(
            "gauge",
            "model_reference_rows",
            "Training rows of the reference distribution",
            [(self.version, telemetry.reference.n_rows)],
        )

    def _feature_reference_metrics(self) -> Iterator[Metric]:
        reference = self.telemetry.reference
        shares = [smoothed_shares(counts) for counts in reference.feature_counts]
        yield self._versioned_metric(
            "gauge",
            "feature_reference_share",
            "Share of training rows per bin, add-one smoothed",
            self._bin_labels(),
            np.concatenate([[], *shares]),
        )

        feature_labels = [{"feature": feature.name} for feature in reference.features]
        bounds = []
        for counts in reference.feature_counts:
            bounds.append(chi2_bound(len(counts), reference.n_monitored_columns))
        yield self._versioned_metric(
            "gauge", "feature_drift_bound", DRIFT_BOUND_HELP, feature_labels, bounds
        )

    def _class_reference_metrics(self) -> Iterator[Metric]:
        reference = self.telemetry.reference
        if not reference.has_classes:
            return

        class_labels = [{"class": str(value)} for value in self.telemetry.predictions.classes]
        yield self._versioned_metric(
            "gauge",
            "class_reference_share",
            "Share of training rows per class, add-one smoothed",
            class_labels,
            smoothed_shares(reference.class_counts),
        )
        bound = chi2_bound(len(reference.class_counts), reference.n_monitored_columns)
        yield make_metric("gauge", "class_drift_bound", DRIFT_BOUND_HELP, [(self.version, bound)])

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

    def _versioned_metric(
        self,
        kind: str,
        name: str,
        help_text: str,
        labels: Iterable[dict[str, str]],
        values: Iterable[float],
    ) -> Metric:
        samples = []
        for sample_labels, value in zip(labels, values, strict=True):
            samples.append((self.version | sample_labels, value))
        return make_metric(kind, name, help_text, samples)

    def _bin_labels(self) -> Iterator[dict[str, str]]:
        for feature in self.telemetry.reference.features:
            for label in bin_labels(feature):
                yield {"feature": feature.name, "bin": label}


def make_metric(kind: str, name: str, help_text: str, samples: Iterable[Sample]) -> Metric:
    """Return a metric with its samples."""
    metric = Metric(name, help_text, kind)
    sample_name = name
    if kind == "counter":
        sample_name = f"{name}_total"
    for labels, value in samples:
        metric.add_sample(sample_name, labels, float(value))
    return metric


def add_worker_samples(families: dict[str, Metric], metrics: list[Metric], worker: str) -> None:
    """Add the samples of one process to `families`, with the label `worker`."""
    for metric in metrics:
        family = families.get(metric.name)
        if family is None:
            family = Metric(metric.name, metric.documentation, metric.type)
            families[metric.name] = family
        for sample in metric.samples:
            family.add_sample(sample.name, {"worker": worker}, sample.value)
