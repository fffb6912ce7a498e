"""Predictors of linear models: sums of products with the coefficients."""

from math import exp
from operator import mul
from typing import Any

import numpy as np

from serving.model.arrays import Array, Floats
from serving.model.plans.links import LINKS, sigmoid, softmax, two_classes

# Below this size Python scores one row faster than numpy does (`bench/score.py`).
MAX_SCALAR_COEFFICIENTS = 64


class LinearClassifier:
    """A linear classifier, for finite rows within float32.

    `weights` has the shape (scores, features); of two classes there is one score.
    """

    name = "linear"
    takes_missing = False
    max_rows = None

    def __init__(
        self, weights: Any, intercept: Floats, classes: Array, *, has_probabilities: bool
    ) -> None:
        self.weights = weights
        self.intercept = intercept
        self.classes = classes
        self.has_probabilities = has_probabilities

        # Weights and intercept of each score, as Python numbers; empty if there are too many.
        self.hyperplanes: list[tuple[list[float], float]] = []
        is_dense = isinstance(self.weights, np.ndarray)
        if is_dense and self.weights.size <= MAX_SCALAR_COEFFICIENTS:
            self.hyperplanes = list(
                zip(self.weights.tolist(), self.intercept.tolist(), strict=True)
            )

    def predict(self, rows: Floats) -> Array:
        """Return the classes, of shape (rows,): those with the largest score.

        Of two classes there is one score: the second class is predicted if the score is above 0.
        """
        if self.hyperplanes and len(rows) == 1:
            row_scores = self._decision_function_one(rows[0].tolist())
            if len(row_scores) > 1:
                index = row_scores.index(max(row_scores))
            else:
                index = int(row_scores[0] > 0)
            return self.classes[index : index + 1]

        scores = self._decision_function(rows)
        if scores.shape[1] == 1:
            is_second_class = scores[:, 0] > 0
            return self.classes[is_second_class.astype(int)]  # type: ignore[no-any-return]
        return self.classes[scores.argmax(axis=1)]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return the class probabilities, of shape (rows, classes), as LogisticRegression does.

        They are the softmax of the scores, or the logistic function of the score of two classes.
        """
        if len(self.hyperplanes) > 1 and len(rows) == 1:
            row_scores = self._decision_function_one(rows[0].tolist())
            largest = max(row_scores)
            exponentials = [exp(score - largest) for score in row_scores]
            total = sum(exponentials)
            return np.array([[exponential / total for exponential in exponentials]])

        scores = self._decision_function(rows)
        if scores.shape[1] > 1:
            return softmax(scores)
        return two_classes(sigmoid(scores))

    def _decision_function(self, rows: Floats) -> Floats:
        return rows @ self.weights.T + self.intercept  # type: ignore[no-any-return]

    def _decision_function_one(self, row: list[float]) -> list[float]:
        return [sum(map(mul, weights, row)) + constant for weights, constant in self.hyperplanes]


class LinearRegressor:
    """A linear regressor, for finite rows within float32; `link` is the name of its link."""

    name = "linear"
    takes_missing = False
    max_rows = None
    has_probabilities = False

    def __init__(self, weights: Any, intercept: Any, link: str | None) -> None:
        self.weights = weights
        self.intercept = intercept
        self.link = link

    def predict(self, rows: Floats) -> Array:
        """Return the predictions, of shape (rows,), or (rows, outputs) of several outputs."""
        predictions: Array = rows @ self.weights + self.intercept
        if self.link:
            # What is not finite is left to the estimator.
            with np.errstate(over="ignore"):
                predictions = LINKS[self.link](predictions)
        return predictions
