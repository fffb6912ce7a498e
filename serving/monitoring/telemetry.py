"""Telemetry: counts and logs each request, counts predictions and feedback, reports drift."""

import time
from typing import Any

from flask import Response

from serving.model.arrays import Array, Rows
from serving.model.card import PredictionValue
from serving.model.model import Model
from serving.monitoring.counters import OTHER_LABEL, RequestCounters
from serving.monitoring.drift_report import describe_drift
from serving.monitoring.feedback_counters import FeedbackCounters
from serving.monitoring.prediction_counters import PredictionCounters
from serving.monitoring.request_log import RequestLog, choose_request_id, current_request
from serving.monitoring.scope import MonitoringScope


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
        self.n_workers = 1  # that the service keeps, those that have not started yet included
        self.request_log = RequestLog()
        # Requested every few seconds, by machines and by the page.
        self.quiet_routes = probe_paths | {"/metrics", "/drift"}

        self.scope = MonitoringScope(model)
        self.scope.log_exclusions()
        self.create_counters()

        self.requests: RequestCounters
        if previous is not None:
            self.requests = previous.requests
        else:
            self.requests = RequestCounters(methods_by_route)

    def create_counters(self) -> None:
        """Count predictions and feedback from 0."""
        prediction_bins = self.scope.prediction_bins
        self.predictions = PredictionCounters(self.scope.feature_bins, prediction_bins)
        self.feedback: FeedbackCounters | None = None
        if prediction_bins is not None:
            self.feedback = FeedbackCounters(prediction_bins)

    def attach(self, slot: int) -> None:
        """Count for the worker in `slot` from now on: 0 before the fork, at least 1 after it."""
        self.requests.attach(slot)
        self.predictions.attach(slot)
        if self.feedback is not None:
            self.feedback.attach(slot)

    def write_log_in(self, loop: Any) -> None:
        """Let an event loop write the log of this process from now on."""
        self.request_log.attach(loop)

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
        response.headers.add("X-Request-ID", current.id)

        route = OTHER_LABEL
        if current.url_rule and current.url_rule.rule in self.requests.methods_by_route:
            route = current.url_rule.rule

        self.requests.end(route, current.method, response.status_code, seconds)
        self.request_log.write(
            current,
            route=route,
            status=response.status_code,
            seconds=seconds,
            model_version=self.model_version,
            is_probe=route in self.quiet_routes,
        )
        return response

    def record_predictions(self, rows: Rows, predictions: Array) -> None:
        """Count `rows`, of shape (rows, features), and their predictions."""
        current_request().n_rows = len(rows)
        self.predictions.record(rows, predictions)

    def record_feedback(
        self, predictions: list[PredictionValue], actual: list[PredictionValue]
    ) -> None:
        """Count predictions and their actual values, two lists of one length."""
        current_request().n_rows = len(actual)
        if self.feedback is not None:
            self.feedback.record(predictions, actual)

    def drift_report(self) -> dict[str, Any]:
        """Return how the rows of the last hour differ from the reference, for each column.

        The feedback in it is that of all rows since the start.
        """
        report = describe_drift(self.scope, self.predictions.window_totals())
        report["feedback"] = self.feedback.describe() if self.feedback else None
        return {"model_version": self.model_version, **report}
