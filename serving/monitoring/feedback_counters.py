"""Counters of feedback: pairs of classes, or the absolute errors of a regressor."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from serving.model.arrays import Floats
from serving.monitoring.bins import distinct_label
from serving.monitoring.counters import counted_slot, shared_array
from serving.monitoring.limits import MAX_PAIR_CLASSES
from serving.monitoring.prediction_bins import ClassBins, PredictionBins

INCORRECT = "incorrect"

FEEDBACK_ROWS_COLUMN = 0
ERROR_SUM_COLUMN = 1
N_ERROR_COLUMNS = 2

ClassLabels = tuple[str, str]  # predicted, actual


class ClassFeedback:
    """Feedback of a classifier: a column for each pair of a predicted and an actual class.

    With more than MAX_PAIR_CLASSES classes there are two columns for each actual class: correct,
    and incorrect whatever was predicted. A prediction is correct if both labels are equal.
    """

    def __init__(self, bins: ClassBins) -> None:
        self.has_pairs = len(bins.classes) <= MAX_PAIR_CLASSES
        self._indices = bins.indices
        self._labels = bins.labels
        self._incorrect = distinct_label(INCORRECT, bins.labels)

        pairs: list[ClassLabels] = []
        for actual in bins.labels:
            predicted_labels = [actual, self._incorrect]
            if self.has_pairs:
                predicted_labels = bins.labels
            pairs += [(predicted, actual) for predicted in predicted_labels]
        self.columns = {labels: column for column, labels in enumerate(pairs)}

    def increments(self, predictions: Sequence[Any], actual: Sequence[Any]) -> dict[int, float]:
        """Return how much each column grows by rows with these predicted and actual classes."""
        increments: Counter[int] = Counter()
        for pair, count in Counter(zip(predictions, actual, strict=True)).items():
            increments[self.columns[self._pair_labels(*pair)]] += count
        return dict(increments)

    def accuracy(self, totals: Floats) -> float | None:
        """Return the share of correct predictions among `totals`, of shape (columns,), if any."""
        n_rows = totals.sum()
        if not n_rows:
            return None
        correct = [
            column for (predicted, actual), column in self.columns.items() if predicted == actual
        ]
        return float(totals[correct].sum() / n_rows)

    def _pair_labels(self, predicted: Any, actual: Any) -> ClassLabels:
        actual_label = self._labels[self._indices[actual]]
        if self.has_pairs:
            return self._labels[self._indices[predicted]], actual_label
        if predicted == actual:
            return actual_label, actual_label
        return self._incorrect, actual_label


class FeedbackCounters:
    """Rows with feedback for one model version, in shared memory.

    For a classifier `by_class` has the columns. For a regressor they are the rows and the sum of
    the absolute errors.
    """

    def __init__(self, bins: PredictionBins) -> None:
        self.by_class: ClassFeedback | None = None
        n_columns = N_ERROR_COLUMNS
        if isinstance(bins, ClassBins):
            self.by_class = ClassFeedback(bins)
            n_columns = len(self.by_class.columns)

        self._table = shared_array(n_columns)
        self._lock = threading.Lock()  # between the threads of one worker
        self.attach(0)

    @property
    def n_bytes(self) -> int:
        """Return the size of the shared memory."""
        return self._table.nbytes

    def attach(self, slot: int) -> None:
        """Count in the row of `slot` from now on."""
        self._counts = self._table[counted_slot(slot)]

    def record(self, predictions: Sequence[Any], actual: Sequence[Any]) -> None:
        """Count predictions and their actual values, two lists of one length."""
        if self.by_class:
            increments = self.by_class.increments(predictions, actual)
        else:
            increments = {
                FEEDBACK_ROWS_COLUMN: len(actual),
                ERROR_SUM_COLUMN: sum_absolute_errors(predictions, actual),
            }

        with self._lock:
            for column, increment in increments.items():
                self._counts[column] += increment

    def describe(self) -> dict[str, Any]:
        """Return the number of rows with feedback, and the accuracy or the mean absolute error."""
        totals = self.totals()
        if self.by_class:
            return {"rows": int(totals.sum()), "accuracy": self.by_class.accuracy(totals)}

        n_rows = int(totals[FEEDBACK_ROWS_COLUMN])
        mean_absolute_error = None
        if n_rows:
            mean_absolute_error = float(totals[ERROR_SUM_COLUMN] / n_rows)
        return {"rows": n_rows, "mean_absolute_error": mean_absolute_error}

    def totals(self) -> Floats:
        """Return the sum of each column over all workers."""
        totals: Floats = self._table.sum(axis=0)
        return totals


def sum_absolute_errors(predictions: Sequence[float], actual: Sequence[float]) -> float:
    """Return the sum of the absolute differences of two lists of numbers."""
    pairs = zip(predictions, actual, strict=True)
    return sum(abs(prediction - value) for prediction, value in pairs)
