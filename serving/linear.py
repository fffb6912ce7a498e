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
FEW = 64


class Linear:
    """A fitted linear classifier of finite rows, within float32."""

    def __init__(self, estimator: Any) -> None:
        self.weights, self.classes = estimator.coef_, estimator.classes_
        # A bare 0.0 where none was fitted.
        self.intercept = np.broadcast_to(estimator.intercept_, self.weights.shape[:1])
        self.has_probabilities = _answers_like(LogisticRegression, estimator, "predict_proba")
        few = isinstance(self.weights, np.ndarray) and self.weights.size <= FEW  # else many, or a sparse matrix
        self.planes = list(zip(self.weights.tolist(), self.intercept.tolist(), strict=True)) if few else []

    def predict(self, rows: Floats) -> NDArray[Any]:
        """Return the classes, of shape (rows,): with the largest score; of two, the second if the one is above 0."""
        if self.planes and len(rows) == 1:
            scores = self._scores_of(rows[0].tolist())
            best = scores.index(max(scores)) if len(scores) > 1 else int(scores[0] > 0)
            return self.classes[best : best + 1]  # type: ignore[no-any-return]
        table = self._scores(rows)
        chosen = table.argmax(axis=1) if table.shape[1] > 1 else (table[:, 0] > 0).astype(int)
        return self.classes[chosen]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return what LogisticRegression does, of shape (rows, classes): softmax of the scores; of two, logistic."""
        if self.planes and len(rows) == 1 and len(self.planes) > 1:
            scores = self._scores_of(rows[0].tolist())
            largest = max(scores)
            shares = [exp(score - largest) for score in scores]
            total = sum(shares)
            return np.array([[share / total for share in shares]])
        table = self._scores(rows)
        if table.shape[1] > 1:
            return softmax(table, axis=1)  # type: ignore[no-any-return]
        second = expit(table)
        return np.hstack([1 - second, second])

    def _scores(self, rows: Floats) -> Floats:
        return rows @ self.weights.T + self.intercept  # type: ignore[no-any-return]

    def _scores_of(self, row: list[float]) -> list[float]:
        return [sum(map(mul, plane, row)) + constant for plane, constant in self.planes]


def linear(estimator: Any) -> Linear | None:
    """Return a linear classifier as one, or None where it is none, or where a score could overflow."""
    # By the methods and not by the name: a subclass that answers in its own way keeps it.
    if not all(_answers_like(LogisticRegression, estimator, method) for method in ("predict", "decision_function")):
        return None
    if np.abs(estimator.coef_).sum() > 1e200 or np.abs(estimator.intercept_).sum() > 1e200:
        return None
    return Linear(estimator)


def _answers_like(one: type, estimator: Any, method: str) -> bool:
    return getattr(type(estimator), method, None) is getattr(one, method)
