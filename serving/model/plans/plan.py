"""A prediction plan: what becomes of the features, and the predictor that is asked with it."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from serving.model.arrays import Array, Floats, Rows
from serving.model.plans.columns import Column, NumberColumn
from serving.model.plans.ensembles import BoostingPredictor, ForestPredictor
from serving.model.plans.matrix import MatrixBuilder

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Predictor(Protocol):
    """The last step of an estimator, for a matrix of numbers within float32."""

    @property
    def name(self) -> str:
        """Return what the plan is called."""

    @property
    def takes_missing(self) -> bool:
        """Return whether NaN is a value."""

    @property
    def has_probabilities(self) -> bool:
        """Return whether it is a classifier that has them."""

    @property
    def max_rows(self) -> int | None:
        """Return the number of rows above which the estimator is quicker, if there is one."""

    def predict(self, rows: Floats) -> Array:
        """Return the predictions, of shape (rows,) or (rows, outputs)."""


class Plan:
    """How to predict as an estimator does, without asking it.

    `columns` make the matrix that the predictor takes, unless `rows_are_matrix`. The features at
    `unseen_is_missing` have no room for a category that training had not. Each method returns None
    for rows that the estimator is to be asked with. Raises NoPlanError if a column is a category.
    """

    def __init__(
        self,
        predictor: Predictor,
        columns: Sequence[Column],
        *,
        rows_are_matrix: bool,
        unseen_is_missing: Sequence[int],
    ) -> None:
        self.predictor = predictor
        self.columns = columns
        self.rows_are_matrix = rows_are_matrix
        self.unseen_is_missing = unseen_is_missing
        self.name = predictor.name
        self.max_rows = predictor.max_rows
        self.classes: Array | None = getattr(predictor, "classes", None)  # of a classifier
        self.has_probabilities = predictor.has_probabilities
        # Regressors have no such method.
        self._probabilities: Any = getattr(predictor, "probabilities", None)
        self._builder: MatrixBuilder | None = None
        if not rows_are_matrix:
            self._builder = MatrixBuilder(columns, frozenset(unseen_is_missing))

    def predict(self, rows: Rows) -> Array | None:
        """Return the predictions for `rows`, of shape (rows, features)."""
        matrix = self._matrix(rows)
        if matrix is None:
            return None
        return self.predictor.predict(matrix)

    def probabilities(self, rows: Rows) -> Floats | None:
        """Return the class probabilities for `rows`, of shape (rows, features)."""
        matrix = self._matrix(rows)
        if matrix is None:
            return None
        probabilities: Floats = self._probabilities(matrix)
        return probabilities

    def split_points(self) -> dict[int, list[float]]:
        """Return the values of each feature, by its index, at which the prediction may jump."""
        points: dict[int, list[float]] = {}
        if not isinstance(self.predictor, ForestPredictor | BoostingPredictor):
            return points
        for output, threshold in self.predictor.trees.thresholds():
            column = self.columns[output]
            if isinstance(column, NumberColumn):
                points.setdefault(column.source, []).append(column.value_before(threshold))
        return points

    def _matrix(self, rows: Rows) -> Floats | None:
        if self.max_rows is not None and len(rows) > self.max_rows:
            return None
        if self._builder is None:
            return rows

        # What is not finite is left to the estimator.
        with np.errstate(all="ignore"):
            matrix = self._builder.build(rows)
        if matrix is None:
            return None
        # A missing value is not below the limit either.
        if self.predictor.takes_missing:
            is_in_range = not (np.abs(matrix) > FLOAT32_MAX).any()
        else:
            is_in_range = bool((np.abs(matrix) <= FLOAT32_MAX).all())
        return matrix if is_in_range else None
