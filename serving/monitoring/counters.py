"""Counters in shared memory: one row for each worker, one column for each series.

The memory is anonymous and mapped before the workers are forked. A worker adds to its own row only,
so no worker waits for another, and a scrape sums the rows. A worker that replaces a dead one goes
on in its row: no count is lost, whatever ended the worker.
"""

import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from serving.model.arrays import Floats

MAX_WORKER_SLOTS = 128  # workers beyond share the last row, where a count may be lost
BYTES_PER_COUNT = 8

OTHER_LABEL = "other"  # one label for whatever a client makes up
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", OTHER_LABEL)
STATUSES = (200, 400, 401, 404, 405, 406, 413, 415, 431, 500, 503, OTHER_LABEL)
DURATION_BUCKETS = (  # upper bounds in seconds
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

PID_COLUMN = 0
IN_FLIGHT_COLUMN = 1
FIRST_REQUEST_COLUMN = 2

RequestLabels = tuple[str, str, int | str]  # route, method, status


@dataclass(frozen=True)
class WorkerCounts:
    """The state of the worker in one row."""

    slot: int
    pid: int
    in_flight: int


@dataclass(frozen=True)
class RouteDurations:
    """The durations of a route's requests: a count for each bucket and above, and their sum."""

    route: str
    bucket_counts: Floats
    total_seconds: float


def shared_array(n_columns: int) -> Floats:
    """Return zeros of shape (MAX_WORKER_SLOTS, n_columns) that forked processes share."""
    memory = mmap.mmap(-1, MAX_WORKER_SLOTS * n_columns * BYTES_PER_COUNT)
    return np.frombuffer(memory, dtype=np.float64).reshape(MAX_WORKER_SLOTS, n_columns)


def counted_slot(slot: int) -> int:
    """Return the slot in which a worker counts: workers beyond the last slot share it."""
    return min(slot, MAX_WORKER_SLOTS - 1)


class RequestCounters:
    """Requests by route, method and status, their durations, and those in flight.

    `methods_by_route` are the methods of each route; all other requests count as `other`.
    """

    def __init__(self, methods_by_route: Mapping[str, set[str]]) -> None:
        self.methods_by_route = methods_by_route

        self._request_columns: dict[RequestLabels, int] = {}
        next_column = FIRST_REQUEST_COLUMN
        for labels in self._iter_labels():
            self._request_columns[labels] = next_column
            next_column += 1

        # For each route a column for each bucket, one for slower requests, one for the sum.
        self._duration_columns: dict[str, int] = {}
        for route in [*methods_by_route, OTHER_LABEL]:
            self._duration_columns[route] = next_column
            next_column += len(DURATION_BUCKETS) + 2

        self._table = shared_array(next_column)
        self._lock = threading.Lock()  # between the threads of one worker
        self.attach(0)

    def _iter_labels(self) -> Iterator[RequestLabels]:
        # A route is matched by its own methods only, so no other method can occur with it.
        for route, methods in self.methods_by_route.items():
            yield from product([route], (*methods, "HEAD", "OPTIONS"), STATUSES)
        yield from product([OTHER_LABEL], METHODS, STATUSES)

    def attach(self, slot: int) -> None:
        """Count in the row of `slot` from now on: 0 before the fork, above 0 for each worker."""
        # Single numbers are read and written faster through a memoryview than through an array.
        self._cells: Any = memoryview(self._table[counted_slot(slot)])
        self._cells[PID_COLUMN] = os.getpid()
        self._cells[IN_FLIGHT_COLUMN] = 0

    def begin(self) -> None:
        """Count a request as in flight."""
        with self._lock:
            self._cells[IN_FLIGHT_COLUMN] += 1

    def end(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that `begin` has counted. `route` is a route or `other`."""
        request_column = self._request_columns.get((route, method, status))
        if request_column is None:
            request_column = self._request_columns[_known_labels(route, method, status)]
        duration_column = self._duration_columns[route]
        bucket_column = duration_column + bisect_left(DURATION_BUCKETS, seconds)
        sum_column = duration_column + len(DURATION_BUCKETS) + 1

        with self._lock:
            self._cells[IN_FLIGHT_COLUMN] -= 1
            self._cells[request_column] += 1
            self._cells[bucket_column] += 1
            self._cells[sum_column] += seconds

    def requests(self) -> Iterator[tuple[RequestLabels, float]]:
        """Yield the labels and the count of each series, summed over all workers."""
        totals = self._table.sum(axis=0)
        for labels, column in self._request_columns.items():
            yield labels, totals[column]

    def durations(self) -> Iterator[RouteDurations]:
        """Yield the durations of each route, summed over all workers."""
        totals = self._table.sum(axis=0)
        n_buckets = len(DURATION_BUCKETS) + 1
        for route, column in self._duration_columns.items():
            bucket_counts = totals[column : column + n_buckets]
            yield RouteDurations(route, bucket_counts, float(totals[column + n_buckets]))

    def workers(self) -> list[WorkerCounts]:
        """Return each row that has been attached, also by a worker that has ended since."""
        workers = []
        columns = self._table[:, [PID_COLUMN, IN_FLIGHT_COLUMN]].astype(int).tolist()
        for slot, (pid, in_flight) in enumerate(columns):
            if pid:
                workers.append(WorkerCounts(slot, pid, in_flight))
        return workers


def _known_labels(route: str, method: str, status: int) -> RequestLabels:
    known_method = OTHER_LABEL
    if method in METHODS:
        known_method = method

    known_status: int | str = OTHER_LABEL
    if status in STATUSES:
        known_status = status

    return route, known_method, known_status
