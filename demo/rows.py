"""Rows for the demo: real ones with their true values, and the same rows shifted."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serving.model.card import FeatureInfo, FeatureValue
from serving.training.dataset import Dataset, TrainingData
from serving.training.evaluation import take

# Of the range of a number in the training rows.
SHIFT = 0.35
SEED = 0


@dataclass(frozen=True)
class Sample:
    """Rows with the values that are to be predicted, None without a target."""

    rows: list[list[FeatureValue]]
    actual: list[Any]


class RealRows:
    """The training rows, drawn at random."""

    def __init__(self, dataset: Dataset) -> None:
        data = TrainingData(dataset)
        self.features = data.features
        self._values = data.signature.to_values(data.rows)
        self._targets: list[Any] = [None] * len(data.rows)
        if data.y is not None:
            self._targets = data.y.tolist()
        self._random = random.Random(SEED)  # noqa: S311 - the same rows in each demo

    def draw(self, count: int, *, shifted: bool = False) -> Sample:
        """Return `count` rows, shifted or as they are."""
        indices = self._random.choices(range(len(self._values)), k=count)
        rows = [list(self._values[index]) for index in indices]
        if shifted:
            rows = [list(shift_row(self.features, row)) for row in rows]
        return Sample(rows, [self._targets[index] for index in indices])


def shift_row(
    features: Sequence[FeatureInfo], row: Sequence[FeatureValue]
) -> Iterator[FeatureValue]:
    """Yield the values of a row as another world would have them."""
    for feature, value in zip(features, row, strict=True):
        yield shift_value(feature, value)


def shift_value(feature: FeatureInfo, value: FeatureValue) -> FeatureValue:
    """Return a larger number, the first category, true, or a longer text."""
    if value is None:
        return None
    if feature.type == "category":
        return feature.categories[0]
    if feature.type == "boolean":
        return True
    if isinstance(value, str):
        return f"{value} {value}"

    extent = (feature.maximum or 0.0) - (feature.minimum or 0.0)
    shifted = value + SHIFT * extent
    if feature.type == "integer":
        return round(shifted)
    return shifted


def random_half(dataset: Dataset) -> Dataset:
    """Return a random half of the rows, for a model that differs from the first one."""
    count = len(dataset.X)
    indices = np.random.default_rng(SEED).permutation(count)[: count // 2]
    target = dataset.y
    if target is not None:
        target = take(target, indices)
    return replace(dataset, X=take(dataset.X, indices), y=target)
