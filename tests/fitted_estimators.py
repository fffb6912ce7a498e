"""Every estimator of scikit-learn that predicts, fitted on the irises once a run."""

import inspect
import warnings
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

X, y = load_iris(return_X_y=True)

# The others transform, or only score the rows that they were fitted on.
ESTIMATORS: dict[str, type] = {
    name: estimator
    for name, estimator in all_estimators()
    if hasattr(estimator, "predict") and name != "IsotonicRegression"  # takes one column, no table
}

TWO_COLUMNS = np.c_[y, X[:, 3] > 1]
# Targets of the estimators that cannot be fitted on one column of three classes.
TARGETS = {
    "FixedThresholdClassifier": y > 0,
    "TunedThresholdClassifierCV": y > 0,
    "ClassifierChain": np.c_[y > 0, y > 1],
    "GammaRegressor": y + 1,
    "CCA": TWO_COLUMNS,
    "PLSCanonical": TWO_COLUMNS,
    "MultiOutputClassifier": TWO_COLUMNS,
    "MultiOutputRegressor": TWO_COLUMNS,
    "RegressorChain": TWO_COLUMNS,
    **{name: TWO_COLUMNS for name in ESTIMATORS if name.startswith("MultiTask")},
}

# Arguments beside an inner estimator and a random state.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "GridSearchCV": {"param_grid": {"C": [1.0]}},
    "LocalOutlierFactor": {"novelty": True},
    "Pipeline": {"steps": [("scale", StandardScaler()), ("classify", LogisticRegression())]},
    "RandomizedSearchCV": {"param_distributions": {"C": [0.5, 1.0]}, "n_iter": 2},
}

# What takes seconds with its defaults.
FAST_ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdaBoostClassifier": {"n_estimators": 5},
    "BaggingClassifier": {"n_estimators": 3},
    "GaussianProcessClassifier": {"max_iter_predict": 5},
    "HistGradientBoostingClassifier": {"max_iter": 5},
    "HistGradientBoostingRegressor": {"max_iter": 5},
    "IsolationForest": {"n_estimators": 5},
    "LogisticRegressionCV": {"Cs": 2, "cv": 2},
    "MeanShift": {"bandwidth": 1.0},
}


def build(name: str) -> Any:
    """Return an estimator with the arguments that it needs, and a random state."""
    estimator = ESTIMATORS[name]
    inner: Any = LogisticRegression(max_iter=500)
    if issubclass(estimator, RegressorMixin):
        inner = LinearRegression()
    if estimator is FrozenEstimator:
        return FrozenEstimator(inner.fit(X, y))

    candidates = {"estimator": inner, "estimators": [("inner", inner)], "random_state": 0}
    parameters = inspect.signature(estimator).parameters
    arguments = ARGUMENTS.get(name, {}) | FAST_ARGUMENTS.get(name, {})
    for parameter, value in candidates.items():
        if parameter not in parameters:
            continue
        is_required = parameters[parameter].default in (inspect.Parameter.empty, None)
        if is_required or parameter == "random_state":
            arguments[parameter] = value
    return estimator(**arguments)


@cache
def fitted_estimator(name: str) -> Any:
    """Return a fitted estimator."""
    # More threads than processors wait for each other, and small fits take seconds.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some estimators warn about this data
        return build(name).fit(X, TARGETS.get(name, y))
