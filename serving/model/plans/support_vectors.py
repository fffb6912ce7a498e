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

    def __init__(
        self, kind: str, vectors: Floats, gamma: float, coef0: float, degree: float
    ) -> None:
        self.kind = kind
        self.vectors = vectors
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.max_rows = MAX_DIFFERENCES // vectors.size

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

    def __init__(self, kernel: Kernel, coefficients: Floats, intercept: float) -> None:
        self.kernel = kernel
        self.max_rows = kernel.max_rows
        self.coefficients = coefficients
        self.intercept = intercept

    def predict(self, rows: Floats) -> Array:
        """Return the sums, of shape (rows,)."""
        return self.kernel(rows) @ self.coefficients + self.intercept


class SupportVectorClassifier:
    """A vote of each pair of classes; of classes with as many votes, the first.

    `coefficients` has the shape (support vectors, pairs).
    """

    name = "support vectors"
    takes_missing = False
    has_probabilities = False  # libsvm's own are left to the estimator

    def __init__(
        self, kernel: Kernel, coefficients: Floats, intercepts: Floats, classes: Array
    ) -> None:
        self.kernel = kernel
        self.max_rows = kernel.max_rows
        self.coefficients = coefficients
        self.intercepts = intercepts
        self.classes = classes
        self.pairs = _pairs(classes)

    def predict(self, rows: Floats) -> Array:
        """Return the classes, of shape (rows,)."""
        decisions = self.kernel(rows) @ self.coefficients + self.intercepts
        votes = np.zeros((len(rows), len(self.classes)), dtype=int)
        for pair, (first, second) in enumerate(self.pairs):
            votes[:, first] += decisions[:, pair] > 0
            votes[:, second] += decisions[:, pair] <= 0
        return self.classes[votes.argmax(axis=1)]  # type: ignore[no-any-return]


def support_vector_regressor(estimator: Any) -> SupportVectorRegressor:
    """Return the predictor of an SVR. Raises NoPlanError."""
    return SupportVectorRegressor(
        _kernel(estimator), estimator._dual_coef_[0], estimator._intercept_[0]
    )


def support_vector_classifier(estimator: Any) -> SupportVectorClassifier:
    """Return the predictor of an SVC. Raises NoPlanError."""
    if estimator.break_ties:
        raise NoPlanError("support vectors with break_ties")
    kernel = _kernel(estimator)

    # The coefficients of each pair; the support vectors are in the order of their classes.
    ends = np.cumsum(estimator._n_support)
    starts = ends - estimator._n_support
    duals = estimator._dual_coef_
    pairs = _pairs(estimator.classes_)
    coefficients = np.zeros((duals.shape[1], len(pairs)))
    for pair, (first, second) in enumerate(pairs):
        of_first = slice(starts[first], ends[first])
        of_second = slice(starts[second], ends[second])
        coefficients[of_first, pair] = duals[second - 1, of_first]
        coefficients[of_second, pair] = duals[first, of_second]
    return SupportVectorClassifier(kernel, coefficients, estimator._intercept_, estimator.classes_)


def _kernel(estimator: Any) -> Kernel:
    if estimator.kernel not in ("linear", "poly", "rbf", "sigmoid"):
        raise NoPlanError("support vectors with a kernel of one's own")
    vectors = estimator.support_vectors_
    if not isinstance(vectors, np.ndarray):
        raise NoPlanError("sparse support vectors")
    if vectors.size > MAX_DIFFERENCES_OF_ONE_ROW:
        raise NoPlanError("so many support vectors that libsvm is quicker")
    return Kernel(estimator.kernel, vectors, estimator._gamma, estimator.coef0, estimator.degree)


def _pairs(classes: Array) -> list[tuple[int, int]]:
    return list(combinations(range(len(classes)), 2))
