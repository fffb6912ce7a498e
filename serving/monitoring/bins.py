"""The bins in which the values of each feature are counted, by the type of the feature.

A number has a bin below its first edge, one between each two edges, and one above the last edge; a
text likewise by its length. A category has a bin for each category seen in training and one for
any other. A boolean has two. A feature whose value may be missing has one more.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.arrays import Floats, Rows
from serving.model.card import FeatureInfo, FeatureValue
from serving.monitoring.drift import FeatureBins

UNSEEN = "unseen"
MISSING = "missing"


def bin_labels(feature: FeatureInfo) -> list[str]:
    """Return the name of each bin of a feature."""
    labels = ["below", *map(str, range(len(feature.edges) - 1)), "above"]
    if feature.type == "category":
        labels = [*map(str, feature.categories)]
        labels.append(distinct_label(UNSEEN, labels))
    if feature.type == "boolean":
        labels = ["false", "true"]
    if feature.nullable:
        labels.append(distinct_label(MISSING, labels))
    return labels


def distinct_label(name: str, labels: Container[str]) -> str:
    """Return `name`, in parentheses if one of `labels` is the same."""
    while name in labels:
        name = f"({name})"
    return name


def training_counts(feature: FeatureInfo, n_rows: int) -> Floats:
    """Return the number of training rows in each bin of a feature, of shape (bins,)."""
    # No training row is below the first edge or above the last one.
    shares = [0.0, *feature.shares, 0.0]
    if feature.type == "category":
        shares = [*feature.shares, 0.0]
    if feature.type == "boolean":
        shares = list(feature.shares)
    if feature.nullable:
        shares.append(feature.missing_share)
    return np.array(shares) * n_rows


class MixedBins:
    """The bins of features of any type, one feature after the other in one array."""

    def __init__(self, features: Sequence[FeatureInfo]) -> None:
        self.columns = [_column_bins(feature) for feature in features]
        self.offsets = [0]  # of the first bin of each feature, and the end of the last one
        for feature in features:
            self.offsets.append(self.offsets[-1] + len(bin_labels(feature)))
        self.size = self.offsets[-1]

    def cell_indices(self, row: Sequence[FeatureValue], first: int = 0) -> list[int]:
        """Return the bin of each value of one row; the first of all bins has the index `first`."""
        return [
            first + offset + column.index(value)
            for offset, column, value in zip(self.offsets, self.columns, row, strict=False)
        ]

    def counts(self, rows: Rows) -> NDArray[np.int64]:
        """Return the number of values of `rows`, of shape (rows, features), in each bin.

        The result has the shape (size,).
        """
        counts = np.zeros(self.size, np.int64)
        for offset, column, values in zip(self.offsets, self.columns, rows.T, strict=False):
            for value, count in Counter(values.tolist()).items():
                counts[offset + column.index(value)] += count
        return counts

    def split(self, counts: Floats) -> list[Floats]:
        """Return the part of `counts`, of shape (size,), that belongs to each feature."""
        return [counts[start:end] for start, end in pairwise(self.offsets)]


class SelectedBins:
    """The bins of some features of a row; `columns` are their indices."""

    def __init__(self, bins: FeatureBins | MixedBins, columns: Sequence[int]) -> None:
        self.bins = bins
        self.columns = list(columns)
        self.size = bins.size

    def cell_indices(self, row: Sequence[Any], first: int = 0) -> list[int]:
        """Return the bin of each selected value; the first of all bins has the index `first`."""
        return self.bins.cell_indices([row[column] for column in self.columns], first)

    def counts(self, rows: Rows) -> NDArray[np.int64]:
        """Return the number of the selected values of `rows` in each bin, of shape (size,)."""
        return self.bins.counts(rows[:, self.columns])

    def split(self, counts: Floats) -> list[Floats]:
        """Return the part of `counts`, of shape (size,), that belongs to each selected feature."""
        return self.bins.split(counts)


AnyBins = FeatureBins | MixedBins | SelectedBins


class _IntervalBins:
    """The bins of a number or of the length of a text."""

    def __init__(self, feature: FeatureInfo) -> None:
        # The last bin holds its right edge, so the next number is the first one above it.
        above = float(np.nextafter(feature.edges[-1], np.inf))
        self.edges = [*feature.edges[:-1], above]
        self.missing = len(feature.edges) + 1
        self.is_text = feature.type == "text"

    def index(self, value: Any) -> int:
        """Return the bin of a value."""
        if value is None or value != value:
            return self.missing
        if self.is_text:
            value = len(value)
        return bisect_right(self.edges, value)


class _CategoryBins:
    """The bins of a category or a boolean."""

    def __init__(self, feature: FeatureInfo) -> None:
        categories: list[Any] = list(feature.categories)
        if feature.type == "boolean":
            categories = [False, True]
        self.indices = {value: index for index, value in enumerate(categories)}
        self.unseen = len(categories)
        self.missing = len(bin_labels(feature)) - 1

    def index(self, value: Any) -> int:
        """Return the bin of a value."""
        if value is None or value != value:
            return self.missing
        return self.indices.get(value, self.unseen)


def _column_bins(feature: FeatureInfo) -> _IntervalBins | _CategoryBins:
    if feature.type in ("category", "boolean"):
        return _CategoryBins(feature)
    return _IntervalBins(feature)


def build_bins(features: Sequence[FeatureInfo]) -> FeatureBins | MixedBins:
    """Return the bins of `features`; plain numbers are counted faster than other types."""
    for feature in features:
        if feature.type not in ("number", "integer") or feature.nullable:
            return MixedBins(features)
    return FeatureBins([feature.edges for feature in features])
