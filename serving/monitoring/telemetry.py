"""Telemetry: counts and logs each request, counts predictions and feedback, reports drift."""

import time
from typing import Any

import numpy as np
from flask import Response

from serving.model.arrays import Floats, Rows
from serving.model.card import PredictionValue
from serving.model.model import Model
from serving.monitoring.bins import bin_labels, build_bins
from serving.monitoring.counters import OTHER_LABEL, RequestCounters
from serving.monitoring.drift import assess_drift
from serving.monitoring.prediction_counters import (
    STEP_SECONDS,
    WINDOW_STEPS,
    PredictionCounters,
)
from serving.monitoring.reference import Reference
from serving.monitoring.request_log import choose_request_id, current_request, log_request


class Telemetry:
    """The counters of one service, which are shared by all its workers.

    The request counters of `previous` are kept when another model is loaded: its workers count in
    them until they end. Predictions are counted for each model version on its own.
    """

    def __init__(
        self,
        methods_by_route: dict[str, set[str]],
        model: Model,
        probe_paths: set[str],
        previous: "Telemetry | None" = None,
    ) -> None:
        self.model_version = model.version
        self.model_name = ""
        if model.card:
            self.model_name = model.card.name
        self.reload_error = ""  # why newer model files are not served
        self.quiet_routes = probe_paths | {"/metrics"}  # requested every few seconds by machines

        self.reference = Reference(model)
        bins = build_bins(self.reference.features)
        classes: list[PredictionValue] = []
        if isinstance(model.classes, np.ndarray):
            classes = model.classes.tolist()
        self.predictions = PredictionCounters(classes, bins)

        self.requests: RequestCounters
        if previous is not None:
            self.requests = previous.requests
        else:
            self.requests = RequestCounters(methods_by_route)

    def attach(self, slot: int) -> None:
        """Count for the worker in `slot` from now on: 0 before the fork, at least 1 after it."""
        self.requests.attach(slot)
        self.predictions.attach(slot)

    def worker_count(self) -> int:
        """Return the number of workers, those that have ended and were not replaced included."""
        return self.requests.worker_count()

    def start_request(self) -> None:
        """Give the current request an id and start its clock."""
        current = current_request()
        current.id = choose_request_id(current.environ.get("HTTP_X_REQUEST_ID", ""))
        self.requests.begin()
        current.started_at = time.perf_counter()

    def finish_request(self, response: Response) -> Response:
        """Count and log the current request, and return its id in a header."""
        current = current_request()
        seconds = time.perf_counter() - current.started_at
        response.headers["X-Request-ID"] = current.id

        route = OTHER_LABEL
        if current.url_rule and current.url_rule.rule in self.requests.methods_by_route:
            route = current.url_rule.rule

        self.requests.end(route, current.method, response.status_code, seconds)
        log_request(
            method=current.method,
            route=route,
            status=response.status_code,
            seconds=seconds,
            n_rows=current.n_rows,
            model_version=self.model_version,
            is_probe=route in self.quiet_routes,
        )
        return response

    def record_predictions(self, rows: Rows, predictions: list[PredictionValue]) -> None:
        """Count `rows`, of shape (rows, features), and their predictions."""
        current_request().n_rows = len(rows)
        self.predictions.record(rows, predictions)

    def record_feedback(
        self, predictions: list[PredictionValue], actual: list[PredictionValue]
    ) -> None:
        """Count predicted against actual classes, two lists of one length."""
        current_request().n_rows = len(actual)
        self.predictions.record_feedback(predictions, actual)

    def drift_report(self) -> dict[str, Any]:
        """Return how the rows of the last hour differ from the reference, for each feature."""
        window = self.predictions.window_totals()

        features = []
        counts_by_feature = self.predictions.bins.split(window.by_bin)
        for feature, live, reference in zip(
            self.reference.features, counts_by_feature, self.reference.feature_counts, strict=True
        ):
            comparison = self._compare(live, reference)
            described = {"name": feature.name, "bins": bin_labels(feature), "edges": feature.edges}
            features.append(described | comparison)

        columns = list(features)
        classes = None
        if self.reference.has_classes:
            comparison = self._compare(window.by_class, self.reference.class_counts)
            classes = {"values": self.predictions.classes, **comparison}
            columns.append(classes)

        return {
            "model_version": self.model_version,
            "window_seconds": STEP_SECONDS * WINDOW_STEPS,
            "rows": window.n_rows,
            "verdict": overall_verdict(columns),
            "features": features,
            "classes": classes,
        }

    def _compare(self, live: Floats, reference: Floats) -> dict[str, Any]:
        assessment = assess_drift(live, reference, self.reference.n_monitored_columns)
        reference_shares = reference / reference.sum()
        live_shares = live / max(live.sum(), 1)
        return {
            **assessment,
            "reference": reference_shares.tolist(),
            "live": live_shares.tolist(),
        }


def overall_verdict(columns: list[dict[str, Any]]) -> str:
    """Return the verdict on all columns, each with a `verdict`."""
    verdicts = [column["verdict"] for column in columns]
    if not verdicts:
        return "no reference"
    if "drifting" in verdicts:
        return "drifting"
    return str(verdicts[0])  # all columns have the same rows, and so the same other verdict
