"""The counts of serving/monitoring/telemetry.py as Prometheus reads them."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product

import numpy as np
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from serving.monitoring.drift import Floats, chi2_bound, smoothed_shares
from serving.monitoring.telemetry import (
    DURATION_BUCKETS,
    FIRST_FEEDBACK_COLUMN,
    IN_FLIGHT_COLUMN,
    PID_COLUMN,
    Telemetry,
)


class MetricsRegistry(CollectorRegistry):
    """Every metric of one service, whichever of its workers is asked."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self.telemetry = telemetry
        self.version = {"model_version": telemetry.version}

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that an Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        yield from self._http_metrics(self.telemetry.http_counters.sum(axis=0))
        yield from self._prediction_metrics(self.telemetry.rows.sum(axis=0))
        yield from self._reference_metrics()
        yield from self._process_metrics()

    def _http_metrics(self, total: Floats) -> Iterator[Metric]:
        served = self.telemetry
        yield make_metric(
            "counter",
            "http_requests",
            "Requests answered",
            (
                ({"method": method, "route": route, "status": str(status)}, total[cell])
                for (route, method, status), cell in served.requests.items()
                # A series must be there before its first request, or `increase` misses that; but not all that might be.
                if total[cell] or (method in served.routes.get(route, ()) and status in (200, 500))
            ),
        )
        durations = HistogramMetricFamily(
            "http_request_duration_seconds", "Time to answer a request", labels=["route"]
        )
        bounds = [*map(str, DURATION_BUCKETS), "+Inf"]
        for route, start in served.duration_columns.items():
            *counts, seconds = total[start : start + len(bounds) + 1].tolist()
            if not any(counts) and "POST" not in served.routes.get(route, {"POST"}):
                continue  # of all that describes and probes, those that someone asks
            durations.add_metric(
                [route], list(zip(bounds, np.cumsum(counts), strict=True)), seconds
            )
        yield durations

    def _prediction_metrics(self, total: Floats) -> Iterator[Metric]:
        served = self.telemetry
        yield make_metric(
            "counter", "rows", "Rows scored", [(self.version, total[served.scoring_columns.start])]
        )
        classes = (
            ({"class": str(value)}, total[cell]) for value, cell in served.class_columns.items()
        )
        yield self._versioned_metric("counter", "predictions", "Rows by predicted class", classes)
        bins = zip(self._bin_labels(), total[served.bin_columns], strict=True)
        yield self._versioned_metric(
            "counter", "feature_rows", "Rows by feature and bin of the reference", bins
        )
        pairs = product(map(str, served.classes), repeat=2)
        counts = zip(pairs, total[FIRST_FEEDBACK_COLUMN:], strict=False)
        feedback = (
            ({"predicted": predicted, "actual": actual}, count)
            for (predicted, actual), count in counts
        )
        yield self._versioned_metric("counter", "feedback", "Rows whose truth was told", feedback)

    def _reference_metrics(self) -> Iterator[Metric]:
        served = self.telemetry
        yield self._versioned_metric(
            "gauge", "model_info", "The model that is served", [({"name": served.name}, 1)]
        )
        about = "Whether the files that lay there at the last reload are served"
        yield make_metric(
            "gauge", "model_last_reload_successful", about, [({}, not served.reload_error)]
        )
        if served.accuracy is not None:
            about = "Cross-validated accuracy, of the card"
            yield make_metric(
                "gauge", "model_accuracy_reference", about, [(self.version, served.accuracy)]
            )
        rows = [(self.version, served.reference_rows)]
        yield make_metric("gauge", "model_reference_rows", "Rows of the reference", rows)
        shares = np.concatenate([[], *map(smoothed_shares, served.reference)])
        bins = zip(self._bin_labels(), shares, strict=True)
        yield self._versioned_metric(
            "gauge", "feature_reference_share", "Share of the reference, a row more a bin", bins
        )
        names = [feature.name for feature in served.features]
        bounds = [
            ({"feature": n}, chi2_bound(len(r), served.columns))
            for n, r in zip(names, served.reference, strict=True)
        ]
        about = "What PSI / (1/rows + 1/reference rows) exceeds by chance"
        yield self._versioned_metric("gauge", "feature_drift_bound", about, bounds)
        if len(served.class_reference):
            shares = smoothed_shares(served.class_reference)
            classes = (
                ({"class": str(c)}, share) for c, share in zip(served.classes, shares, strict=True)
            )
            yield self._versioned_metric(
                "gauge", "class_reference_share", "Share of the reference, a row more", classes
            )
            bound = chi2_bound(len(served.class_reference), served.columns)
            yield make_metric("gauge", "class_drift_bound", about, [(self.version, bound)])

    def _process_metrics(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        in_flight = 0.0
        for row, (pid, requests) in enumerate(
            self.telemetry.http_counters[:, [PID_COLUMN, IN_FLIGHT_COLUMN]].tolist()
        ):
            of_process = ProcessCollector(pid=partial(int, pid), registry=None)
            about = list(of_process.collect()) if pid else []
            in_flight += (
                requests if about else 0
            )  # what a process that was killed had in flight is not
            for one in about:
                family = found.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    family.add_sample(sample.name, {"worker": str(row)}, sample.value)
        yield make_metric(
            "gauge", "http_requests_in_flight", "Requests begun and not answered", [({}, in_flight)]
        )
        yield from found.values()

    def _versioned_metric(
        self, kind: str, name: str, about: str, samples: Iterable[tuple[dict[str, str], float]]
    ) -> Metric:
        return make_metric(
            kind, name, about, ((self.version | labels, value) for labels, value in samples)
        )

    def _bin_labels(self) -> Iterator[dict[str, str]]:
        for feature in self.telemetry.features:
            for label in ("below", *map(str, range(len(feature.edges) - 1)), "above"):
                yield {"feature": feature.name, "bin": label}


def make_metric(
    kind: str, name: str, about: str, samples: Iterable[tuple[dict[str, str], float]]
) -> Metric:
    """Return a metric with its samples, each labels and a value."""
    made = Metric(name, about, kind)
    for labels, value in samples:
        made.add_sample(f"{name}_total" if kind == "counter" else name, labels, float(value))
    return made
