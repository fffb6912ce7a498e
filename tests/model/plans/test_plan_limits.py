"""What a plan leaves to the estimator: much memory, many rows at once, numbers beyond float32."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder
from sklearn.svm import SVC

from fitted_estimators import X, y
from plan_answers import plan_of
from serving.model.estimator_model import EstimatorModel
from serving.model.plans.columns import NoPlanError


@pytest.mark.parametrize(
    ("limit", "estimator", "reason"),
    [
        ("trees.MAX_VALUES", RandomForestClassifier(5), "so many nodes"),
        ("support_vectors.MAX_DIFFERENCES_OF_ONE_ROW", SVC(), "so many support vectors"),
        ("encoders.MAX_TABLE_NUMBERS", make_pipeline(OneHotEncoder(), Ridge()), "so many cat"),
    ],
)
def test_plan_is_never_large(monkeypatch, limit, estimator, reason):
    """An estimator whose plan would take much memory has none."""
    fitted = estimator.fit(X, y)
    plan_of(fitted)
    monkeypatch.setattr(f"serving.model.plans.{limit}", 100)
    with pytest.raises(NoPlanError, match=reason):
        plan_of(fitted)


@pytest.mark.parametrize("estimator", [SVC(), GaussianNB()], ids=str)
def test_differences_of_many_rows_are_left_to_the_estimator(estimator, monkeypatch):
    """The memory that a plan takes for many rows is bounded."""
    module = "bayes" if isinstance(estimator, GaussianNB) else "support_vectors"
    monkeypatch.setattr(f"serving.model.plans.{module}.MAX_DIFFERENCES", 1000)
    fitted = estimator.fit(X, y)
    plan = plan_of(fitted)
    assert plan.predict(X[:1]) is not None
    assert plan.predict(X) is None
    np.testing.assert_array_equal(EstimatorModel(fitted, "", None).predict(X), fitted.predict(X))


def test_numbers_beyond_float32_are_left_to_the_estimator():
    """A scaler can make a number that a tree refuses; so does the plan."""
    fitted = make_pipeline(MinMaxScaler(), RandomForestClassifier(5, random_state=0)).fit(
        X * 1e-9, y
    )
    rows = np.full((1, 4), 1e38)
    assert plan_of(fitted).predict(rows) is None
    with pytest.raises(ValueError, match="float32"), np.errstate(over="ignore"):
        fitted.predict(rows)
