"""What is counted and logged of each request, in memory that all workers share. Knows no scikit-learn."""

import logging
import mmap
import os
import random
import re
import threading
import time
from bisect import bisect_left
from collections import Counter
from itertools import product
from typing import Any

import flask
import numpy as np
from flask import Response, has_request_context, request
from pythonjsonlogger.msgspec import MsgspecFormatter

from serving.model.card import PredictionValue
from serving.model.model import Model
from serving.monitoring.drift import FeatureBins, Floats, assess_drift

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context

OTHER_LABEL = "other"  # whatever a client makes up is one series
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", OTHER_LABEL)
STATUSES = (200, 400, 401, 404, 405, 406, 413, 415, 431, 500, 503, OTHER_LABEL)
DURATION_BUCKETS = (
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    2.5e-3,
    5e-3,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)  # seconds

# The window of drift: it moves on by a step, and is between 55 and 60 minutes long.
STEP_SECONDS, WINDOW_STEPS = 300, 12
# Rows in the shared memory. Workers beyond them share the last, and may lose a count there.
MAX_WORKER_SLOTS = 128
PID_COLUMN, IN_FLIGHT_COLUMN, FIRST_COUNTER_COLUMN = range(3)
CURRENT_STEP_COLUMN, FIRST_FEEDBACK_COLUMN = range(2)

log = logging.getLogger(__name__)


class Request(flask.Request):
    """A request with what is counted and logged of it: its name, when it began, how many rows it brought."""

    id = ""
    started_at = 0.0
    rows = 0


def current_request() -> Request:
    """Return the request itself; each look through Flask's proxy would cost as much as what is looked at."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


class Telemetry:
    """Counts that are true across workers, and outlive them.

    Tables of numbers in anonymous memory, made before the workers are forked and shared with them: a column a series, a
    row a worker. A worker adds in its own row alone, so none waits for another, and a scrape sums the rows. Who takes
    the place of a dead worker goes on in its row: nothing that was counted is lost, whatever ended it. Requests are
    counted on from `before`, in a table shared with its workers while they end; rows are a version's own.
    """

    def __init__(
        self,
        routes: dict[str, set[str]],
        model: Model,
        probes: set[str],
        before: "Telemetry | None" = None,
    ) -> None:
        card = model.card
        self.version = model.version
        self.reload_error = (
            ""  # why the files that came after this version are not served, if any came
        )
        self.name = card.name if card else ""
        self.routes = routes
        self.quiet_routes = probes | {
            "/metrics"
        }  # asked every few seconds by machines: logged at debug while they succeed
        self.classes = model.classes.tolist() if isinstance(model.classes, np.ndarray) else []
        self.features = card.features if card else []
        self.bins = FeatureBins([feature.edges for feature in self.features])
        self.reference_rows = card.rows if card else 0
        self.accuracy = card.metrics.get("cross_validation", {}).get("accuracy") if card else None
        self.reference = [
            np.array([0.0, *f.shares, 0.0]) * self.reference_rows for f in self.features
        ]
        self.class_reference = (
            np.array([c.share for c in card.classes] if card else []) * self.reference_rows
        )
        self.columns = len(self.reference) + bool(len(self.class_reference))

        # A route is found by its own methods alone; whatever else is asked for is other.
        methods = {route: (*known, "HEAD", "OPTIONS") for route, known in routes.items()} | {
            OTHER_LABEL: METHODS
        }
        labels = [
            label for route in methods for label in product([route], methods[route], STATUSES)
        ]
        self.requests = dict(
            zip(
                labels, range(FIRST_COUNTER_COLUMN, FIRST_COUNTER_COLUMN + len(labels)), strict=True
            )
        )
        end = FIRST_COUNTER_COLUMN + len(labels)
        self.duration_columns = {}
        for route in [*routes, OTHER_LABEL]:
            self.duration_columns[route] = (
                end  # a cell a bucket, one for what is slower, one for the sum
            )
            end += len(DURATION_BUCKETS) + 2
        self.http_counters: Floats = before.http_counters if before else shared_array(end)

        end = FIRST_FEEDBACK_COLUMN + len(self.classes) ** 2
        # What drift is judged from: rows, classes, bins; and the same as it was at the start of each step.
        self.scoring_columns = slice(end, end + 1 + len(self.classes) + self.bins.size)
        self.class_columns = {value: end + 1 + i for i, value in enumerate(self.classes)}
        self.bin_columns = slice(
            self.scoring_columns.stop - self.bins.size, self.scoring_columns.stop
        )
        width = self.scoring_columns.stop - self.scoring_columns.start
        self.rows = shared_array(self.scoring_columns.stop + WINDOW_STEPS * width)
        self.steps = self.rows[:, self.scoring_columns.stop :].reshape(
            MAX_WORKER_SLOTS, WINDOW_STEPS, width
        )

        self.lock = threading.Lock()  # between the threads of one worker
        self.attach(0)

    def attach(self, row: int) -> None:
        """Count in `row` from now on: 0 before the fork, above it one for each worker."""
        row = min(row, MAX_WORKER_SLOTS - 1)
        self.row, self.snapshots_row = self.rows[row], self.steps[row]
        # A number at a time, these are faster than the arrays.
        self.cells: Any = memoryview(self.http_counters[row])
        self.model_cells: Any = memoryview(self.row)
        self.cells[PID_COLUMN] = os.getpid()
        self.cells[IN_FLIGHT_COLUMN] = 0

    def worker_count(self) -> int:
        """Return how many workers have counted, those that ended and were not replaced included."""
        return int(np.count_nonzero(self.http_counters[1:, PID_COLUMN]))

    def start_request(self) -> None:
        """Name the request, as the client did where that is safe to write to a log, and start its clock."""
        asked = current_request()
        sent = asked.environ.get("HTTP_X_REQUEST_ID", "")
        # No secret, and forked workers draw different ones: the module random seeds itself anew in each.
        asked.id = sent if SAFE_REQUEST_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"
        with self.lock:
            self.cells[IN_FLIGHT_COLUMN] += 1
        asked.started_at = time.perf_counter()

    def finish_request(self, response: Response) -> Response:
        """Count and log the request, and give it back its name."""
        asked = current_request()
        seconds = time.perf_counter() - asked.started_at
        response.headers["X-Request-ID"] = asked.id
        route = (
            asked.url_rule.rule
            if asked.url_rule and asked.url_rule.rule in self.duration_columns
            else OTHER_LABEL
        )
        method, status = asked.method, response.status_code
        cell = (
            self.requests.get((route, method, status))
            or self.requests[
                route,
                method if method in METHODS else OTHER_LABEL,
                status if status in STATUSES else OTHER_LABEL,
            ]
        )
        duration = self.duration_columns[route]
        with self.lock:
            self.cells[IN_FLIGHT_COLUMN] -= 1
            self.cells[cell] += 1
            self.cells[duration + bisect_left(DURATION_BUCKETS, seconds)] += 1
            self.cells[duration + len(DURATION_BUCKETS) + 1] += seconds
        quiet = route in self.quiet_routes and method != "POST" and status < 400
        level = logging.ERROR if status >= 500 else logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            facts = {
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 3),
            }
            facts |= {"rows": asked.rows, "model_version": self.version}
            log.log(level, "%s %s %d in %.3f ms", method, route, status, facts["ms"], extra=facts)
        return response

    def record_predictions(self, rows: Floats, prediction: list[PredictionValue]) -> None:
        """Count `rows`, of shape (rows, features), and what was predicted for them."""
        n = current_request().rows = len(rows)
        step = time.monotonic() // STEP_SECONDS
        # One row is counted sooner without numpy.
        cells = self.bins.cells(rows[0].tolist(), self.bin_columns.start) if n == 1 else []
        counts = self.bins.counts(rows) if self.features and not cells else 0
        classes = (
            ()
            if not self.classes
            else ((prediction[0], 1),)
            if n == 1
            else Counter(prediction).items()
        )
        with self.lock:
            if self.model_cells[CURRENT_STEP_COLUMN] != step:
                self._roll_window(step)
            self.model_cells[self.scoring_columns.start] += n
            for cell in cells:
                self.model_cells[cell] += 1
            if not cells:
                self.row[self.bin_columns] += counts
            for value, of in classes:
                self.model_cells[self.class_columns[value]] += of

    def _roll_window(self, step: float) -> None:
        # Steps in which nothing came began with the same numbers as this one.
        for missed in range(
            int(max(self.model_cells[CURRENT_STEP_COLUMN] + 1, step - WINDOW_STEPS + 1)),
            int(step) + 1,
        ):
            self.snapshots_row[missed % WINDOW_STEPS] = self.row[self.scoring_columns]
        self.model_cells[CURRENT_STEP_COLUMN] = step

    def record_feedback(
        self, prediction: list[PredictionValue], actual: list[PredictionValue]
    ) -> None:
        """Count what was predicted against what turned out to be."""
        current_request().rows = len(actual)
        with self.lock:
            for (predicted, true), n in Counter(zip(prediction, actual, strict=True)).items():
                at = self.classes.index(predicted) * len(self.classes) + self.classes.index(true)
                self.model_cells[FIRST_FEEDBACK_COLUMN + at] += n

    def drift_report(self) -> dict[str, Any]:
        """Return how what was scored in the last hour differs from the reference, feature by feature."""
        oldest = int(time.monotonic() // STEP_SECONDS) - WINDOW_STEPS + 1
        recent = self.rows[:, CURRENT_STEP_COLUMN] >= oldest
        live = (
            self.rows[recent, self.scoring_columns] - self.steps[recent, oldest % WINDOW_STEPS]
        ).sum(axis=0)
        rows, classes, bins = (
            live[0],
            live[1 : 1 + len(self.classes)],
            live[1 + len(self.classes) :],
        )
        columns = []
        for feature, start, reference in zip(
            self.features, self.bins.offsets, self.reference, strict=False
        ):
            columns.append({"name": feature.name, "edges": feature.edges})
            columns[-1] |= self._compare(bins[start : start + len(reference)], reference)
        found: dict[str, Any] = {
            "model_version": self.version,
            "window_seconds": STEP_SECONDS * WINDOW_STEPS,
            "rows": int(rows),
        }
        mix = self._compare(classes, self.class_reference) if len(self.class_reference) else None
        verdicts = [column["verdict"] for column in (*columns, mix) if column] or ["no reference"]
        verdict = (
            "drifting" if "drifting" in verdicts else verdicts[0]
        )  # the rows are the same for all
        return found | {
            "verdict": verdict,
            "features": columns,
            "classes": mix and {"values": self.classes} | mix,
        }

    def _compare(self, live: Floats, reference: Floats) -> dict[str, Any]:
        shares = {"reference": reference / reference.sum(), "live": live / max(live.sum(), 1)}
        return assess_drift(live, reference, self.columns) | {
            name: values.tolist() for name, values in shares.items()
        }


def shared_array(columns: int) -> Floats:
    """Return a table of zeros, of shape (WORKERS, columns), that is shared with whatever is forked."""
    return np.frombuffer(mmap.mmap(-1, MAX_WORKER_SLOTS * columns * 8), dtype=np.float64).reshape(
        MAX_WORKER_SLOTS, columns
    )


class RequestContextFilter(logging.Filter):
    """Adds the ids of the request, if there is one, to whatever is logged during it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        if has_request_context() and (asked := current_request()).id:
            record.request_id = asked.id
            if trace := TRACEPARENT.fullmatch(asked.headers.get("traceparent", "")):
                record.trace_id = trace[1]
        return True


def logging_config(level: str, terminal: bool) -> dict[str, Any]:
    """Return what logging.config.dictConfig takes: all to stderr, a line of JSON each, readable on a terminal."""
    own = {"level": level, "handlers": [], "propagate": True}
    fields = {"levelname": "level", "name": "logger", "message": "message"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": own, "gunicorn.access": own},
        "filters": {"request": {"()": RequestContextFilter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "terminal" if terminal else "json",
                "filters": ["request"],
            }
        },
        "formatters": {
            "terminal": {"format": "%(asctime)s %(levelname)s %(message)s"},
            "json": {
                "()": MsgspecFormatter,
                "fmt": list(fields),
                "rename_fields": fields,
                "timestamp": "time",
            },
        },
    }
