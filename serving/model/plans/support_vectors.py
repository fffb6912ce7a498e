"""The predictors of support vector machines, with libsvm's votes of each pair of classes."""

from itertools import combinations
from typing import Any

import numpy as np

from serving.model.arrays import Array, Floats
from serving.model.plans.columns import NoPlanError

# Differences of rows and support vectors, at once and for one row: with more of them the loops of
# libsvm are quicker, and need no memory.
MAX_DIFFERENCES = 1_000_000
MAX_DIFFERENCES_OF_ONE_ROW = 100_000


class Kernel:
    """The similarity of rows and support vectors."""

    def __init__(self, estimator: Any) -> None:
        self.kind = estimator.kernel
        self.vectors = estimator.support_vectors_
        self.gamma = estimator._gamma
        self.coef0 = estimator.coef0
        self.degree = estimator.degree
        if self.kind not in ("linear", "poly", "rbf", "sigmoid"):
            raise NoPlanError("support vectors with a kernel of one's own")
        if not isinstance(self.vectors, np.ndarray):
            raise NoPlanError("sparse support vectors")
        if self.vectors.size > MAX_DIFFERENCES_OF_ONE_ROW:
            raise NoPlanError("so many support vectors that libsvm is quicker")
        self.max_rows = MAX_DIFFERENCES // self.vectors.size

    def __call__(self, rows: Floats) -> Floats:
        """Return the similarities, of shape (rows, support vectors)."""
        similarities: Floats
        if self.kind == "rbf":
            differences = rows[:, np.newaxis] - self.vectors
            similarities = np.exp(-self.gamma * (differences**2).sum(axis=2))
            return similarities

        similarities = rows @ self.vectors.T
        if self.kind != "linear":
            similarities = self.gamma * similarities + self.coef0
        if self.kind == "poly":
            similarities = similarities**self.degree
        if self.kind == "sigmoid":
            similarities = np.tanh(similarities)
        return similarities


class SupportVectorRegressor:
    """The sum of the similarities, each times its coefficient."""

    name = "support vectors"
    takes_missing = False
    has_probabilities = False

    def __init__(self, estimator: Any) -> None:
        self.kernel = Kernel(estimator)
        self.max_rows = self.kernel.max_rows
        self.coefficients = estimator._dual_coef_[0]
        self.intercept = estimator._intercept_[0]

    def predict(self, rows: Floats) -> Array:
        """Return the sums, of shape (rows,)."""
        return self.kernel(rows) @ self.coefficients + self.intercept  # type: ignore[no-any-return]


class SupportVectorClassifier:
    """A vote of each pair of classes; of classes with as many votes, the first."""

    name = "support vectors"
    takes_missing = False
    has_probabilities = False  # libsvm's own are left to the estimator

    def __init__(self, estimator: Any) -> None:
        if estimator.break_ties:
            raise NoPlanError("support vectors with break_ties")
        self.kernel = Kernel(estimator)
        self.max_rows = self.kernel.max_rows
        self.classes = estimator.classes_
        self.pairs = list(combinations(range(len(self.classes)), 2))
        self.intercepts = estimator._intercept_

        # The coefficients of each pair; the support vectors are in the order of their classes.
        ends = np.cumsum(estimator._n_support)
        starts = ends - estimator._n_support
        duals = estimator._dual_coef_
        self.coefficients = np.zeros((duals.shape[1], len(self.pairs)))
        for pair, (first, second) in enumerate(self.pairs):
            of_first = slice(starts[first], ends[first])
            of_second = slice(starts[second], ends[second])
            self.coefficients[of_first, pair] = duals[second - 1, of_first]
            self.coefficients[of_second, pair] = duals[first, of_second]

    def predict(self, rows: Floats) -> Array:
        """Return the classes, of shape (rows,)."""
        decisions = self.kernel(rows) @ self.coefficients + self.intercepts
        votes = np.zeros((len(rows), len(self.classes)), dtype=int)
        for pair, (first, second) in enumerate(self.pairs):
            votes[:, first] += decisions[:, pair] > 0
            votes[:, second] += decisions[:, pair] <= 0
        return self.classes[votes.argmax(axis=1)]  # type: ignore[no-any-return]
