"""Counters of scored rows, and what they were at the start of each interval of the last hour."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.model.arrays import Array, Floats, Rows
from serving.model.card import PredictionValue
from serving.monitoring.bins import AnyBins
from serving.monitoring.counters import MAX_WORKER_SLOTS, counted_slot, shared_array
from serving.monitoring.prediction_bins import ClassBins, NumberBins, PredictionBins

# The window of drift moves by an interval at a time and is between 55 and 60 minutes long.
INTERVAL_SECONDS = 300
WINDOW_INTERVALS = 12

INTERVAL_COLUMN = 0
ROWS_COLUMN = 1
FIRST_PREDICTION_COLUMN = 2


@dataclass(frozen=True)
class PredictionCounts:
    """Rows that were scored: how many, by bin of the prediction, and by bin of each feature."""

    n_rows: int
    by_prediction: Floats
    by_feature: Floats


def current_interval() -> int:
    """Return the number of the current interval."""
    return int(time.monotonic() // INTERVAL_SECONDS)


class PredictionCounters:
    """Rows scored by one model version, by bin of the prediction and by bin of each feature.

    The columns are: the interval in which the worker counted last; the counts (rows, bins of the
    prediction, bins of the features); then, for each interval of the window, a snapshot of the
    counts as they were when the interval began. Without `prediction_bins` no prediction is counted.
    """

    def __init__(self, feature_bins: AnyBins, prediction_bins: PredictionBins | None) -> None:
        self.feature_bins = feature_bins
        self.prediction_bins = prediction_bins

        n_prediction_bins = 0
        self._class_columns: dict[PredictionValue, int] = {}
        self._number_bins: NumberBins | None = None
        if prediction_bins is not None:
            n_prediction_bins = prediction_bins.size
        if isinstance(prediction_bins, ClassBins):
            for value, index in prediction_bins.indices.items():
                self._class_columns[value] = FIRST_PREDICTION_COLUMN + index
        if isinstance(prediction_bins, NumberBins):
            self._number_bins = prediction_bins

        self._first_feature_column = FIRST_PREDICTION_COLUMN + n_prediction_bins
        end = self._first_feature_column + feature_bins.size
        self._count_columns = slice(ROWS_COLUMN, end)
        self._feature_columns = slice(self._first_feature_column, end)

        n_counts = end - ROWS_COLUMN
        self._table = shared_array(end + WINDOW_INTERVALS * n_counts)
        self._snapshots = self._table[:, end:].reshape(MAX_WORKER_SLOTS, WINDOW_INTERVALS, n_counts)
        self._lock = threading.Lock()  # between the threads of one worker
        self.attach(0)

    @property
    def n_bytes(self) -> int:
        """Return the size of the shared memory."""
        return self._table.nbytes

    def attach(self, slot: int) -> None:
        """Count in the row of `slot` from now on."""
        self._counts = self._table[counted_slot(slot)]
        self._own_snapshots = self._snapshots[counted_slot(slot)]
        # Single numbers are read and written faster through a memoryview than through an array.
        self._cells: Any = memoryview(self._counts)

    def record(self, rows: Rows, predictions: Array | Sequence[Any]) -> None:
        """Count `rows`, of shape (rows, features), and their predictions."""
        if len(rows) == 1:
            self._record_one(rows[0].tolist(), predictions[0])
            return

        interval = current_interval()
        feature_counts = None
        if self.feature_bins.size:
            feature_counts = self.feature_bins.counts(rows)
        prediction_counts: dict[int, int] = {}
        if self.prediction_bins is not None:
            prediction_counts = self.prediction_bins.counts(predictions)

        with self._lock:
            if self._cells[INTERVAL_COLUMN] != interval:
                self._begin_interval(interval)
            self._cells[ROWS_COLUMN] += len(rows)
            if feature_counts is not None:
                self._counts[self._feature_columns] += feature_counts
            for index, count in prediction_counts.items():
                self._cells[FIRST_PREDICTION_COLUMN + index] += count

    def _record_one(self, row: list[Any], prediction: Any) -> None:
        # One row is counted faster without numpy.
        interval = current_interval()
        columns = self.feature_bins.cell_indices(row, self._first_feature_column)
        if self._class_columns:
            columns.append(self._class_columns[prediction])
        elif self._number_bins is not None:
            columns.append(FIRST_PREDICTION_COLUMN + self._number_bins.index(prediction))

        with self._lock:
            if self._cells[INTERVAL_COLUMN] != interval:
                self._begin_interval(interval)
            self._cells[ROWS_COLUMN] += 1
            for column in columns:
                self._cells[column] += 1

    def _begin_interval(self, interval: int) -> None:
        # No row was counted between the last interval and this one, so that all of the intervals in
        # between, and this one, began with the same counts.
        last_interval = int(self._cells[INTERVAL_COLUMN])
        first = max(last_interval + 1, interval - WINDOW_INTERVALS + 1)
        for begun in range(first, interval + 1):
            self._own_snapshots[begun % WINDOW_INTERVALS] = self._counts[self._count_columns]
        self._cells[INTERVAL_COLUMN] = interval

    def totals(self) -> PredictionCounts:
        """Return the counts since the start, summed over all workers."""
        return self._split(self._table[:, self._count_columns].sum(axis=0))

    def window_totals(self) -> PredictionCounts:
        """Return the counts of the window, summed over all workers."""
        oldest_interval = current_interval() - WINDOW_INTERVALS + 1
        recent = self._table[:, INTERVAL_COLUMN] >= oldest_interval
        at_start = self._snapshots[recent, oldest_interval % WINDOW_INTERVALS]
        return self._split((self._table[recent, self._count_columns] - at_start).sum(axis=0))

    def _split(self, counts: Floats) -> PredictionCounts:
        n_prediction_bins = self._first_feature_column - FIRST_PREDICTION_COLUMN
        by_prediction = counts[1 : 1 + n_prediction_bins]
        by_feature = counts[1 + n_prediction_bins :]
        return PredictionCounts(int(counts[0]), by_prediction, by_feature)
