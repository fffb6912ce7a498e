"""The signature: the features of a row, and how the estimator is asked with rows.

Rows are a two-dimensional array, one column a feature. Its elements are float64 if all features are
numbers, with NaN for a missing value; otherwise they are Python values, with None for one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.model.arrays import Rows
from serving.model.card import FeatureInfo, FeatureValue, InputKind
from serving.model.frames import FRAME_BUILDERS


class Signature:
    """The features of a model, and what its estimator is asked with.

    Raises ModelError if the library of its DataFrames is not installed, unless `builds_frames` is
    false because no estimator is asked.
    """

    def __init__(
        self,
        features: Sequence[FeatureInfo],
        input_kind: InputKind = "array",
        *,
        builds_frames: bool = True,
    ) -> None:
        self.features = list(features)
        self.names = [feature.name for feature in features]
        self.input_kind = input_kind

        types = {feature.type for feature in features}
        self.has_missing = any(feature.nullable for feature in features)
        self.is_numeric = types <= {"number", "integer"}
        if input_kind == "array":
            self.is_numeric = types <= {"number", "integer", "boolean"}

        self._integer_columns: list[int] = []
        self._known_categories: dict[int, frozenset[FeatureValue]] = {}
        for index, feature in enumerate(features):
            if feature.type == "category":
                self._known_categories[index] = frozenset(feature.categories)
            if feature.type == "integer" or has_integer_categories(feature):
                self._integer_columns.append(index)

        self._build_frame: Any = None
        if builds_frames and input_kind in FRAME_BUILDERS:
            self._build_frame = FRAME_BUILDERS[input_kind](self.features)

    def to_rows(self, values: Rows | Sequence[Sequence[FeatureValue]]) -> Rows:
        """Return a row for each of `values`, each with a value for each feature."""
        if self.is_numeric:
            return np.array(values, dtype=np.float64).reshape(-1, len(self.features))

        rows = np.empty((len(values), len(self.features)), dtype=object)
        rows[:] = values
        for index in self._integer_columns:
            # JSON and CSV have no integers of their own: 3 and 3.0 are the same number.
            rows[:, index] = [as_integer(value) for value in rows[:, index]]
        return rows

    def to_values(self, rows: Rows) -> list[list[FeatureValue]]:
        """Return the values of each row as Python values."""
        values: list[list[FeatureValue]] = rows.tolist()
        if self.is_numeric and self.has_missing:
            return [[None if value != value else value for value in row] for row in values]
        return values

    def to_input(self, rows: Rows) -> Any:
        """Return what the estimator is asked with for `rows`, of shape (rows, features)."""
        if self._build_frame:
            return self._build_frame(rows)
        if self.input_kind == "texts":
            return rows[:, 0].tolist()
        if rows.dtype != object:
            return rows
        return np.where(rows == None, np.nan, rows)  # noqa: E711 - for each element

    def find_unseen_category(self, rows: Rows) -> tuple[int, str] | None:
        """Return the first row and feature with a category that training had not, if any."""
        for row_index, row in enumerate(rows):
            for index, known in self._known_categories.items():
                if row[index] is not None and row[index] not in known:
                    return row_index, self.names[index]
        return None


def has_integer_categories(feature: FeatureInfo) -> bool:
    """Return whether the values of a category are integers."""
    return bool(feature.categories) and isinstance(feature.categories[0], int)


def as_integer(value: FeatureValue) -> FeatureValue:
    """Return a float, which must be integral, as an integer, and any other value as it is."""
    if isinstance(value, float):
        return int(value)
    return value
