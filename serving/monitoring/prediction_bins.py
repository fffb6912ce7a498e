"""The bins in which predictions are counted: classes, or intervals of a regressor's predictions."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from serving.model.arrays import Array, Floats
from serving.model.card import FeatureInfo, PredictionValue
from serving.monitoring.bins import bin_labels, distinct_label, training_counts
from serving.monitoring.drift import FeatureBins
from serving.monitoring.limits import MAX_CLASSES

OTHER_CLASSES = "other"


class ClassBins:
    """A bin for each class of a classifier.

    Of more than MAX_CLASSES classes only those with the largest `shares` have bins of their own;
    the others share the last bin. `shares` are those of the training rows, or empty.
    """

    def __init__(self, classes: Sequence[PredictionValue], shares: Sequence[float] = ()) -> None:
        self.classes = list(classes)
        kept = list(range(len(self.classes)))
        if len(self.classes) > MAX_CLASSES:
            kept = most_frequent(len(self.classes), shares)

        self.values = [self.classes[i] for i in kept]
        self.labels = [str(value) for value in self.values]
        self.n_other = len(self.classes) - len(self.values)
        # A prediction is always a class, so the dictionary has every one.
        self.indices = dict.fromkeys(self.classes, len(self.values))
        for index, value in enumerate(self.values):
            self.indices[value] = index
        if self.n_other:
            other = distinct_label(OTHER_CLASSES, self.labels)
            self.values.append(other)
            self.labels.append(other)

        self.size = len(self.labels)
        self.class_shares = list(shares)

    def counts(self, predictions: Array | Sequence[PredictionValue]) -> dict[int, int]:
        """Return the number of `predictions` in each bin that has any, by the bin's index."""
        counts: dict[int, int] = {}
        for value, count in count_values(np.asarray(predictions)).items():
            index = self.indices[value]
            counts[index] = counts.get(index, 0) + count
        return counts

    def reference_counts(self, n_rows: int) -> Floats:
        """Return the number of training rows in each bin, of shape (size,), or none."""
        if not self.class_shares:
            return np.array([])
        counts = np.zeros(self.size)
        for value, share in zip(self.classes, self.class_shares, strict=True):
            counts[self.indices[value]] += share * n_rows
        return counts


class NumberBins:
    """The bins of a regressor's predictions: quantiles of its predictions in cross-validation."""

    def __init__(self, distribution: FeatureInfo) -> None:
        self.distribution = distribution
        self.labels = bin_labels(distribution)
        self.size = len(self.labels)
        self._bins = FeatureBins([distribution.edges])

    def index(self, prediction: float) -> int:
        """Return the bin of a prediction."""
        return self._bins.cell_indices([prediction])[0]

    def counts(self, predictions: Array | Sequence[float]) -> dict[int, int]:
        """Return the number of `predictions` in each bin, by the bin's index."""
        column = np.array(predictions, np.float64)[:, np.newaxis]
        return dict(enumerate(self._bins.counts(column).tolist()))

    def reference_counts(self, n_rows: int) -> Floats:
        """Return the number of training rows in each bin, of shape (size,)."""
        return training_counts(self.distribution, n_rows)


PredictionBins = ClassBins | NumberBins


def count_values(values: Array) -> dict[PredictionValue, int]:
    """Return how often each of `values`, of shape (rows,), is among them."""
    if values.dtype == object:
        return Counter(values.tolist())
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def most_frequent(n_classes: int, shares: Sequence[float]) -> list[int]:
    """Return the indices of the MAX_CLASSES largest shares, in ascending order."""
    order = list(range(n_classes))
    if shares:
        order.sort(key=lambda index: -shares[index])
    return sorted(order[:MAX_CLASSES])
