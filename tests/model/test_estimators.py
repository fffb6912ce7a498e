"""Every estimator of scikit-learn, saved to a file and loaded again."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

X, y = load_iris(return_X_y=True)

ESTIMATORS = [
    pytest.param(estimator, kind, id=name)
    for kind in ("classifier", "regressor")
    for name, estimator in all_estimators(kind)
    if name != "IsotonicRegression"  # is fitted on one column, not on a table
]

TWO_COLUMNS = np.c_[y, X[:, 3] > 1]
MULTI_TASK_REGRESSORS = [
    name for name, _ in all_estimators("regressor") if name.startswith("MultiTask")
]
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
    **dict.fromkeys(MULTI_TASK_REGRESSORS, TWO_COLUMNS),
}


def required_arguments(estimator, kind):
    """Return the arguments that a meta-estimator cannot do without, and a random state."""
    inner = LogisticRegression(max_iter=500) if kind == "classifier" else LinearRegression()
    candidates = {"estimator": inner, "estimators": [("inner", inner)], "random_state": 0}
    parameters = inspect.signature(estimator).parameters

    arguments = {}
    for name, value in candidates.items():
        if name not in parameters:
            continue
        is_required = parameters[name].default in (inspect.Parameter.empty, None)
        if is_required or name == "random_state":
            arguments[name] = value
    return arguments


@pytest.mark.parametrize(("estimator", "kind"), ESTIMATORS)
def test_estimator_survives_the_file(save_and_load, estimator, kind):
    """Each estimator of scikit-learn predicts the same after it was saved and loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some estimators warn about this data
        target = TARGETS.get(estimator.__name__, y)
        fitted = estimator(**required_arguments(estimator, kind)).fit(X, target)
        model = save_and_load(fitted)
        actual = model.predict(X)
        expected = fitted.predict(X)

        if np.asarray(expected).dtype.kind == "f":
            # The last bits of a sum depend on the alignment of the memory.
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
        else:
            np.testing.assert_array_equal(actual, expected)
        if model.has_probabilities:
            probabilities = fitted.predict_proba(X)
            np.testing.assert_allclose(model.probabilities(X), probabilities, rtol=1e-9)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), SelectKBest(k=2), LogisticRegression()),
        make_pipeline(FunctionTransformer(np.log1p), SplineTransformer(), Ridge()),
        make_pipeline(
            ColumnTransformer([("a", StandardScaler(), slice(0, 2)), ("b", "drop", [2])]), Ridge()
        ),
        GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1]}, scoring="accuracy"),
        CalibratedClassifierCV(DecisionTreeClassifier(), method="isotonic"),
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_composite_estimator_survives_the_file(save_and_load, estimator):
    """Pipelines, searches and wrappers predict the same after they were saved and loaded."""
    fitted = estimator.fit(X, y)
    model = save_and_load(fitted)
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
