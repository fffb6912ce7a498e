"""Counters of predictions and feedback, and what they were at each step of the last hour."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.model.arrays import Floats, Rows
from serving.model.card import PredictionValue
from serving.monitoring.bins import MixedBins
from serving.monitoring.counters import MAX_WORKER_SLOTS, row_index, shared_array
from serving.monitoring.drift import FeatureBins

# The window of drift moves by a step at a time and is between 55 and 60 minutes long.
STEP_SECONDS = 300
WINDOW_STEPS = 12

CURRENT_STEP_COLUMN = 0
FIRST_FEEDBACK_COLUMN = 1


@dataclass(frozen=True)
class PredictionCounts:
    """Rows that were scored: how many, by predicted class, and by bin of each feature."""

    n_rows: int
    by_class: Floats
    by_bin: Floats


def current_step() -> int:
    """Return the number of the current step."""
    return int(time.monotonic() // STEP_SECONDS)


class PredictionCounters:
    """Rows scored by one model version: by class, by bin, and by feedback.

    The columns are: the current step; feedback, a column for each pair of predicted and actual
    class; the scoring columns (rows, classes, bins); then, for each step of the window, a snapshot
    of the scoring columns as they were when the step began.
    """

    def __init__(self, classes: Sequence[PredictionValue], bins: FeatureBins | MixedBins) -> None:
        self.classes = list(classes)
        self.bins = bins
        n_classes = len(self.classes)

        self._rows_column = FIRST_FEEDBACK_COLUMN + n_classes**2
        first_class_column = self._rows_column + 1
        self._first_bin_column = first_class_column + n_classes
        end = self._first_bin_column + bins.size

        self._scoring_columns = slice(self._rows_column, end)
        self._bin_columns = slice(self._first_bin_column, end)
        self._class_columns = {
            value: first_class_column + i for i, value in enumerate(self.classes)
        }

        width = end - self._rows_column
        self._table = shared_array(end + WINDOW_STEPS * width)
        self._snapshots = self._table[:, end:].reshape(MAX_WORKER_SLOTS, WINDOW_STEPS, width)
        self._lock = threading.Lock()  # between the threads of one worker
        self.attach(0)

    def attach(self, slot: int) -> None:
        """Count in the row of `slot` from now on."""
        row = row_index(slot)
        self._row = self._table[row]
        self._row_snapshots = self._snapshots[row]
        # Single numbers are read and written faster through a memoryview than through an array.
        self._cells: Any = memoryview(self._row)

    def record(self, rows: Rows, predictions: list[PredictionValue]) -> None:
        """Count `rows`, of shape (rows, features), and their predictions."""
        if len(rows) == 1:
            self._record_one(rows[0].tolist(), predictions[0])
            return

        step = current_step()
        bin_counts = None
        if self.bins.size:
            bin_counts = self.bins.counts(rows)
        class_counts: Counter[PredictionValue] = Counter()
        if self.classes:
            class_counts.update(predictions)

        with self._lock:
            if self._cells[CURRENT_STEP_COLUMN] != step:
                self._take_snapshots(step)
            self._cells[self._rows_column] += len(rows)
            if bin_counts is not None:
                self._row[self._bin_columns] += bin_counts
            for value, count in class_counts.items():
                self._cells[self._class_columns[value]] += count

    def _record_one(self, row: list[Any], prediction: PredictionValue) -> None:
        # One row is counted faster without numpy.
        step = current_step()
        bin_columns = self.bins.cell_indices(row, self._first_bin_column)

        with self._lock:
            if self._cells[CURRENT_STEP_COLUMN] != step:
                self._take_snapshots(step)
            self._cells[self._rows_column] += 1
            for column in bin_columns:
                self._cells[column] += 1
            if self.classes:
                self._cells[self._class_columns[prediction]] += 1

    def _take_snapshots(self, step: int) -> None:
        # Steps without a row began with the same counts as the current step.
        last_step = int(self._cells[CURRENT_STEP_COLUMN])
        first_missed = max(last_step + 1, step - WINDOW_STEPS + 1)
        for missed in range(first_missed, step + 1):
            self._row_snapshots[missed % WINDOW_STEPS] = self._row[self._scoring_columns]
        self._cells[CURRENT_STEP_COLUMN] = step

    def record_feedback(
        self, predictions: list[PredictionValue], actual: list[PredictionValue]
    ) -> None:
        """Count each pair of a predicted and an actual class."""
        pairs = Counter(zip(predictions, actual, strict=True))
        with self._lock:
            for (predicted_class, actual_class), count in pairs.items():
                predicted_index = self.classes.index(predicted_class)
                actual_index = self.classes.index(actual_class)
                pair_index = predicted_index * len(self.classes) + actual_index
                self._cells[FIRST_FEEDBACK_COLUMN + pair_index] += count

    def totals(self) -> PredictionCounts:
        """Return the counts since the start, summed over all workers."""
        return self._split(self._table[:, self._scoring_columns].sum(axis=0))

    def feedback_totals(self) -> Floats:
        """Return the feedback, of shape (predicted, actual), summed over all workers."""
        n_classes = len(self.classes)
        columns = slice(FIRST_FEEDBACK_COLUMN, self._rows_column)
        totals: Floats = self._table[:, columns].sum(axis=0)
        return totals.reshape(n_classes, n_classes)

    def window_totals(self) -> PredictionCounts:
        """Return the counts of the window, summed over all workers."""
        oldest_step = current_step() - WINDOW_STEPS + 1
        recent = self._table[:, CURRENT_STEP_COLUMN] >= oldest_step
        at_start = self._snapshots[recent, oldest_step % WINDOW_STEPS]
        return self._split((self._table[recent, self._scoring_columns] - at_start).sum(axis=0))

    def _split(self, scoring: Floats) -> PredictionCounts:
        n_classes = len(self.classes)
        by_class = scoring[1 : 1 + n_classes]
        by_bin = scoring[1 + n_classes :]
        return PredictionCounts(int(scoring[0]), by_class, by_bin)
