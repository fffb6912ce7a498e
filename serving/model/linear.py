"""Prediction from the coefficients of a linear classifier.

The rows are validated before they come here. The methods of scikit-learn would validate them again.
"""

from math import exp
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from serving.model.arrays import Floats

# Below this size Python scores one row faster than numpy does (`bench/score.py`).
MAX_SCALAR_COEFFICIENTS = 64
# With larger coefficients the score of a row within float32 could overflow.
MAX_ABSOLUTE_SUM = 1e200


class LinearClassifier:
    """A fitted linear classifier, for finite rows within float32."""

    def __init__(self, estimator: Any) -> None:
        self.classes = estimator.classes_
        self.weights = estimator.coef_
        # An estimator without an intercept has 0.0 here, not an array.
        self.intercept = np.broadcast_to(estimator.intercept_, self.weights.shape[:1])
        self.has_probabilities = _inherits_method(estimator, "predict_proba")

        # Weights and intercept of each score, as Python numbers; empty if there are too many.
        self.hyperplanes: list[tuple[list[float], float]] = []
        is_dense = isinstance(self.weights, np.ndarray)
        if is_dense and self.weights.size <= MAX_SCALAR_COEFFICIENTS:
            self.hyperplanes = list(
                zip(self.weights.tolist(), self.intercept.tolist(), strict=True)
            )

    def predict(self, rows: Floats) -> NDArray[Any]:
        """Return the classes, of shape (rows,): those with the largest score.

        Of two classes there is one score: the second class is predicted if the score is above 0.
        """
        if self.hyperplanes and len(rows) == 1:
            row_scores = self._decision_function_one(rows[0].tolist())
            if len(row_scores) > 1:
                index = row_scores.index(max(row_scores))
            else:
                index = int(row_scores[0] > 0)
            return self.classes[index : index + 1]  # type: ignore[no-any-return]

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
            return softmax(scores, axis=1)  # type: ignore[no-any-return]
        second_class = expit(scores)
        return np.hstack([1 - second_class, second_class])

    def _decision_function(self, rows: Floats) -> Floats:
        return rows @ self.weights.T + self.intercept  # type: ignore[no-any-return]

    def _decision_function_one(self, row: list[float]) -> list[float]:
        return [sum(map(mul, weights, row)) + constant for weights, constant in self.hyperplanes]


def as_linear_classifier(estimator: Any) -> LinearClassifier | None:
    """Return a LinearClassifier for `estimator`, or None if its predictions could differ."""
    # The methods are compared, not the class: a subclass may override them.
    for method in ("predict", "decision_function"):
        if not _inherits_method(estimator, method):
            return None

    if np.abs(estimator.coef_).sum() > MAX_ABSOLUTE_SUM:
        return None
    if np.abs(estimator.intercept_).sum() > MAX_ABSOLUTE_SUM:
        return None
    return LinearClassifier(estimator)


def _inherits_method(estimator: Any, method: str) -> bool:
    """Return whether the estimator has the method of LogisticRegression."""
    return getattr(type(estimator), method, None) is getattr(LogisticRegression, method)
