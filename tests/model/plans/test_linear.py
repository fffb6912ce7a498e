"""Prediction from coefficients: the same as by the estimator, and only where that is certain."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.svm import LinearSVC

from serving.model.estimator_model import EstimatorModel
from serving.model.plans.columns import NoPlanError
from serving.model.plans.linear_estimators import linear_predictor

X, y = load_iris(return_X_y=True)
WORDS = np.array(["a", "b", "c"])

TABLES = arrays(
    np.float64, st.tuples(st.integers(1, 20), st.just(4)), elements=st.floats(-3e38, 3e38)
)


def logistic_regression(target, **parameters):
    return LogisticRegression(max_iter=500, **parameters).fit(X, target)


def classifier_with_ties():
    fitted = logistic_regression(y)
    fitted.coef_ = np.ones_like(fitted.coef_)
    fitted.intercept_ = np.zeros_like(fitted.intercept_)
    return fitted


CLASSIFIERS = [
    pytest.param(logistic_regression(y), id="three classes"),
    pytest.param(logistic_regression(y > 1), id="two classes"),
    pytest.param(logistic_regression(WORDS[y]), id="words"),
    pytest.param(logistic_regression(y, fit_intercept=False), id="no intercept"),
    pytest.param(Perceptron().fit(X, y), id="perceptron"),
    pytest.param(LinearSVC(max_iter=100_000).fit(X, y), id="support vectors"),
    pytest.param(classifier_with_ties(), id="ties"),
]


def magnitudes(fitted, rows):
    """Return the size of the largest sum that a score of each row could be."""
    return (np.abs(rows) @ np.abs(fitted.coef_).T).max(axis=1)


def score_gaps(fitted, rows):
    """Return the distance of the largest score of each row from the next; of two classes from 0."""
    scores = fitted.decision_function(rows).reshape(len(rows), -1)
    if scores.shape[1] == 1:
        scores = np.column_stack([scores, np.zeros(len(rows))])
    return np.diff(np.sort(scores))[:, -1]


def has_determined_class(fitted, rows, gaps):
    """Return for each row whether the rounding of a sum cannot change its class."""
    determined = gaps > 1e-14 * magnitudes(fitted, rows)
    has_equal_scores = len(fitted.coef_) > 1 and not fitted.coef_.std(axis=0).any()
    if has_equal_scores:
        # Scores that are the same sum are equal in any order, and the first class is predicted.
        determined[:] = True
    return determined


def predict_one_by_one(method, rows):
    return np.concatenate([method(rows[i : i + 1]) for i in range(len(rows))])


@pytest.mark.parametrize("fitted", CLASSIFIERS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=TABLES)
def test_coefficients_predict_as_estimator(fitted, rows):
    """Classes and probabilities are the estimator's, for many rows and one by one."""
    model = EstimatorModel(fitted, "", None)
    expected = fitted.predict(rows)
    gaps = score_gaps(fitted, rows)
    determined = has_determined_class(fitted, rows, gaps)
    for predictions in (model.predict(rows), predict_one_by_one(model.predict, rows)):
        np.testing.assert_array_equal(predictions[determined], expected[determined], strict=True)
    if not model.has_probabilities:
        return

    expected = fitted.predict_proba(rows)
    # A score is as exact as its largest term. Beyond that only 0 and 1 can be told apart.
    exact = (magnitudes(fitted, rows) < 1e6) | (determined & (gaps > 1e3))
    one_by_one = predict_one_by_one(model.probabilities, rows)
    for probabilities in (model.probabilities(rows), one_by_one):
        np.testing.assert_allclose(probabilities[exact], expected[exact], atol=1e-8)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("fitted", CLASSIFIERS)
def test_linear_classifier_does_not_call_estimator(fitted, monkeypatch):
    """A linear classifier predicts without the `predict` of its estimator."""
    expected = fitted.predict(X)
    model = EstimatorModel(fitted, "", None)
    monkeypatch.setattr(fitted, "predict", None)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_subclass_keeps_its_predict():
    """A subclass that overrides `predict` is not predicted from its coefficients."""

    class FirstClassOnly(LogisticRegression):
        def predict(self, rows):
            return np.zeros(len(rows), dtype=int)

    model = EstimatorModel(FirstClassOnly(max_iter=500).fit(X, y), "", None)
    assert model.predict(X[-1:]).tolist() == [0]


def test_large_coefficients_are_left_to_estimator():
    """Scores that could overflow are computed by the estimator."""
    fitted = logistic_regression(y)
    linear_predictor(fitted)
    fitted.coef_ = fitted.coef_ * 1e300
    with pytest.raises(NoPlanError, match="could overflow"):
        linear_predictor(fitted)


def test_sparse_coefficients_predict():
    """A classifier with sparse coefficients predicts as before."""
    fitted = logistic_regression(y)
    expected = fitted.predict(X)
    np.testing.assert_array_equal(EstimatorModel(fitted.sparsify(), "", None).predict(X), expected)
