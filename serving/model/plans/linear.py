"""Predictors of linear models: sums of products with the coefficients."""

from collections.abc import Callable
from math import exp
from operator import mul
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from serving.model.arrays import Array, Floats
from serving.model.plans.columns import NoPlanError, is_of_sklearn
from serving.model.plans.links import sigmoid, softmax, two_classes

# Below this size Python scores one row faster than numpy does (`bench/score.py`).
MAX_SCALAR_COEFFICIENTS = 64
# With larger coefficients the score of a row within float32 could overflow.
MAX_ABSOLUTE_SUM = 1e200


class LinearClassifier:
    """A fitted linear classifier, for finite rows within float32."""

    name = "linear"
    takes_missing = False
    max_rows = None

    def __init__(self, estimator: Any, *, has_probabilities: bool) -> None:
        self.classes = estimator.classes_
        self.weights = estimator.coef_
        # An estimator without an intercept has 0.0 here, not an array.
        self.intercept = np.broadcast_to(estimator.intercept_, self.weights.shape[:1])
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
            return softmax(scores)
        return two_classes(sigmoid(scores))

    def _decision_function(self, rows: Floats) -> Floats:
        return rows @ self.weights.T + self.intercept  # type: ignore[no-any-return]

    def _decision_function_one(self, row: list[float]) -> list[float]:
        return [sum(map(mul, weights, row)) + constant for weights, constant in self.hyperplanes]


class LinearRegressor:
    """A fitted linear regressor, for finite rows within float32."""

    name = "linear"
    takes_missing = False
    max_rows = None
    has_probabilities = False

    def __init__(self, estimator: Any, inverse_link: Callable[[Floats], Floats] | None) -> None:
        self.weights = estimator.coef_.T
        self.intercept = estimator.intercept_
        self.inverse_link = inverse_link

    def predict(self, rows: Floats) -> Array:
        """Return the predictions, of shape (rows,), or (rows, outputs) of several outputs."""
        predictions: Array = rows @ self.weights + self.intercept
        if self.inverse_link:
            # What is not finite is left to the estimator.
            with np.errstate(over="ignore"):
                predictions = self.inverse_link(predictions)
        return predictions


# Those whose methods are their own, and give the same as those of LogisticRegression.
LINEAR_CLASSIFIERS = frozenset(
    {"LinearDiscriminantAnalysis", "RidgeClassifier", "RidgeClassifierCV"}
)
WITH_PROBABILITIES = frozenset({"LinearDiscriminantAnalysis"})
# Those whose prediction is the sum of the products, by the name of their class in scikit-learn.
LINEAR_REGRESSORS = frozenset(
    {
        "ARDRegression",
        "BayesianRidge",
        "ElasticNet",
        "ElasticNetCV",
        "HuberRegressor",
        "Lars",
        "LarsCV",
        "Lasso",
        "LassoCV",
        "LassoLars",
        "LassoLarsCV",
        "LassoLarsIC",
        "LinearRegression",
        "LinearSVR",
        "MultiTaskElasticNet",
        "MultiTaskElasticNetCV",
        "MultiTaskLasso",
        "MultiTaskLassoCV",
        "OrthogonalMatchingPursuit",
        "OrthogonalMatchingPursuitCV",
        "PassiveAggressiveRegressor",
        "QuantileRegressor",
        "Ridge",
        "RidgeCV",
        "SGDRegressor",
        "TheilSenRegressor",
    }
)
# Those whose prediction is the exponential of that sum.
LOG_LINEAR_REGRESSORS = frozenset({"GammaRegressor", "PoissonRegressor"})


def linear_predictor(estimator: Any) -> LinearClassifier | LinearRegressor:
    """Return the predictor of a linear model. Raises NoPlanError if its answers could differ."""
    kind = type(estimator).__name__
    predictor: LinearClassifier | LinearRegressor
    if _inherits(estimator, "predict") and _inherits(estimator, "decision_function"):
        has_probabilities = _inherits(estimator, "predict_proba")
        predictor = LinearClassifier(estimator, has_probabilities=has_probabilities)
    elif is_of_sklearn(estimator) and kind in LINEAR_CLASSIFIERS:
        binarizer = getattr(estimator, "_label_binarizer", None)
        if binarizer is not None and binarizer.y_type_.startswith("multilabel"):
            raise NoPlanError("a linear classifier with several labels a row")
        predictor = LinearClassifier(estimator, has_probabilities=kind in WITH_PROBABILITIES)
    elif is_of_sklearn(estimator) and kind in LINEAR_REGRESSORS:
        predictor = LinearRegressor(estimator, None)
    elif is_of_sklearn(estimator) and kind in LOG_LINEAR_REGRESSORS:
        predictor = LinearRegressor(estimator, np.exp)
    else:
        raise NoPlanError(f"{kind} has no plan")

    for attribute in (estimator.coef_, estimator.intercept_):
        if np.abs(attribute).sum() > MAX_ABSOLUTE_SUM:
            raise NoPlanError("coefficients whose sums could overflow")
    return predictor


def _inherits(estimator: Any, method: str) -> bool:
    """Return whether the estimator has the method of LogisticRegression."""
    # The methods are compared, not the class: a subclass may override them.
    return getattr(type(estimator), method, None) is getattr(LogisticRegression, method)
