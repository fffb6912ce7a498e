"""Linear classifiers, straight from their coefficients: scikit-learn's methods check every call's rows once more."""

from math import exp
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
# Up to so many coefficients Python adds up one row sooner than numpy has begun (`bench/score.py`).
MAX_SCALAR_COEFFICIENTS = 64


class LinearClassifier:
    """A fitted linear classifier of finite rows, within float32."""

    def __init__(self, estimator: Any) -> None:
        self.weights, self.classes = estimator.coef_, estimator.classes_
        # A bare 0.0 where none was fitted.
        self.intercept = np.broadcast_to(estimator.intercept_, self.weights.shape[:1])
        self.has_probabilities = _inherits_method(LogisticRegression, estimator, "predict_proba")
        few = (
            isinstance(self.weights, np.ndarray) and self.weights.size <= MAX_SCALAR_COEFFICIENTS
        )  # else many, or a sparse matrix
        self.hyperplanes = (
            list(zip(self.weights.tolist(), self.intercept.tolist(), strict=True)) if few else []
        )

    def predict(self, rows: Floats) -> NDArray[Any]:
        """Return the classes, of shape (rows,): with the largest score; of two, the second if the one is above 0."""
        if self.hyperplanes and len(rows) == 1:
            scores = self._decision_function_one(rows[0].tolist())
            best = scores.index(max(scores)) if len(scores) > 1 else int(scores[0] > 0)
            return self.classes[best : best + 1]  # type: ignore[no-any-return]
        table = self._decision_function(rows)
        chosen = table.argmax(axis=1) if table.shape[1] > 1 else (table[:, 0] > 0).astype(int)
        return self.classes[chosen]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return what LogisticRegression does, of shape (rows, classes): softmax of the scores; of two, logistic."""
        if self.hyperplanes and len(rows) == 1 and len(self.hyperplanes) > 1:
            scores = self._decision_function_one(rows[0].tolist())
            largest = max(scores)
            shares = [exp(score - largest) for score in scores]
            total = sum(shares)
            return np.array([[share / total for share in shares]])
        table = self._decision_function(rows)
        if table.shape[1] > 1:
            return softmax(table, axis=1)  # type: ignore[no-any-return]
        second = expit(table)
        return np.hstack([1 - second, second])

    def _decision_function(self, rows: Floats) -> Floats:
        return rows @ self.weights.T + self.intercept  # type: ignore[no-any-return]

    def _decision_function_one(self, row: list[float]) -> list[float]:
        return [sum(map(mul, plane, row)) + constant for plane, constant in self.hyperplanes]


def as_linear_classifier(estimator: Any) -> LinearClassifier | None:
    """Return a linear classifier as one, or None where it is none, or where a score could overflow."""
    # By the methods and not by the name: a subclass that answers in its own way keeps it.
    if not all(
        _inherits_method(LogisticRegression, estimator, method)
        for method in ("predict", "decision_function")
    ):
        return None
    if np.abs(estimator.coef_).sum() > 1e200 or np.abs(estimator.intercept_).sum() > 1e200:
        return None
    return LinearClassifier(estimator)


def _inherits_method(one: type, estimator: Any, method: str) -> bool:
    return getattr(type(estimator), method, None) is getattr(one, method)
