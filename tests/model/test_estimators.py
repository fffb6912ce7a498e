"""Every estimator of scikit-learn, saved to a file and loaded again."""

import warnings

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from fitted_estimators import ESTIMATORS, X, fitted_estimator, y


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimator_survives_the_file(save_and_load, name):
    """Each estimator of scikit-learn predicts the same after it was saved and loaded."""
    fitted = fitted_estimator(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some estimators warn about this data
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
