"""The predictors of fitted linear models."""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from serving.model.plans.columns import NoPlanError, is_of_sklearn
from serving.model.plans.linear import LinearClassifier, LinearRegressor

# With larger coefficients the score of a row within float32 could overflow.
MAX_ABSOLUTE_SUM = 1e200

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
        predictor = _classifier(estimator, has_probabilities=has_probabilities)
    elif is_of_sklearn(estimator) and kind in LINEAR_CLASSIFIERS:
        binarizer = getattr(estimator, "_label_binarizer", None)
        if binarizer is not None and binarizer.y_type_.startswith("multilabel"):
            raise NoPlanError("a linear classifier with several labels a row")
        predictor = _classifier(estimator, has_probabilities=kind in WITH_PROBABILITIES)
    elif is_of_sklearn(estimator) and kind in LINEAR_REGRESSORS:
        predictor = LinearRegressor(estimator.coef_.T, estimator.intercept_, None)
    elif is_of_sklearn(estimator) and kind in LOG_LINEAR_REGRESSORS:
        predictor = LinearRegressor(estimator.coef_.T, estimator.intercept_, "exp")
    else:
        raise NoPlanError(f"{kind} has no plan")

    for attribute in (estimator.coef_, estimator.intercept_):
        if np.abs(attribute).sum() > MAX_ABSOLUTE_SUM:
            raise NoPlanError("coefficients whose sums could overflow")
    return predictor


def _classifier(estimator: Any, *, has_probabilities: bool) -> LinearClassifier:
    weights = estimator.coef_
    # An estimator without an intercept has 0.0 here, not an array.
    intercept = np.broadcast_to(estimator.intercept_, weights.shape[:1])
    return LinearClassifier(
        weights, intercept, estimator.classes_, has_probabilities=has_probabilities
    )


def _inherits(estimator: Any, method: str) -> bool:
    """Return whether the estimator has the method of LogisticRegression."""
    # The methods are compared, not the class: a subclass may override them.
    return getattr(type(estimator), method, None) is getattr(LogisticRegression, method)
