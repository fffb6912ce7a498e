"""Prediction plans: the answers of every estimator and transformer that has one."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    StandardScaler,
)
from sklearn.svm import SVC, SVR, NuSVC
from sklearn.tree import DecisionTreeClassifier

from fitted_estimators import ESTIMATORS, X, fitted_estimator, y
from plan_answers import assert_same_answers, plan_of
from serving.model.estimator_model import EstimatorModel
from serving.model.plans.columns import NoPlanError

FLOAT32 = float(np.finfo(np.float32).max)
TABLES = arrays(
    np.float64,
    st.tuples(st.integers(1, 60), st.just(4)),
    elements=st.one_of(st.floats(-1, 9), st.sampled_from([0.0, -FLOAT32, FLOAT32, 1e-300])),
)


def has_plan(name):
    try:
        plan_of(fitted_estimator(name))
    except NoPlanError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_plan_of_every_estimator_answers_as_it(name):
    """An estimator of scikit-learn has no plan, or one with the same answers."""
    estimator = fitted_estimator(name)
    try:
        plan = plan_of(estimator)
    except NoPlanError as error:
        assert str(error)
        return
    assert_same_answers(plan, estimator, X[::2])


MOST_USED = [
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "GridSearchCV",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LogisticRegression",
    "Pipeline",
    "PoissonRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "Ridge",
    "SGDClassifier",
]


def test_most_used_estimators_have_a_plan():
    """Linear models, trees, forests and gradient boosting have one, alone and in a search."""
    for name in MOST_USED:
        assert has_plan(name), name


TREES = [
    DecisionTreeClassifier(random_state=0),
    DecisionTreeClassifier(random_state=0, max_depth=1),
    RandomForestClassifier(20, random_state=0),
    RandomForestClassifier(20, random_state=0, max_depth=3),
    RandomForestRegressor(20, random_state=0),
    ExtraTreesClassifier(20, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0, init="zero"),
    GradientBoostingRegressor(n_estimators=5, random_state=0, loss="quantile"),
    HistGradientBoostingClassifier(max_iter=5),
    HistGradientBoostingRegressor(max_iter=5, loss="poisson"),
]


@pytest.mark.parametrize("estimator", TREES, ids=lambda estimator: str(estimator)[:60])
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=20)
@given(rows=TABLES)
def test_trees_answer_to_the_last_bit(estimator, rows):
    """Sums of leaves are those of scikit-learn, in the same order, wherever a row falls."""
    fitted = fit_once(estimator, y)
    plan = plan_of(fitted)
    with np.errstate(invalid="ignore"):  # scikit-learn adds the numbers to see whether one is NaN
        expected = fitted.predict(rows)
        np.testing.assert_array_equal(plan.predict(rows), expected)
        if plan.has_probabilities:
            one = plan.probabilities(rows[:1])
            np.testing.assert_allclose(one, fitted.predict_proba(rows[:1]), rtol=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
@pytest.mark.parametrize("target", [y, y > 0, np.array(["c", "a", "b"])[y]], ids=str)
def test_support_vectors(kernel, target):
    """Each pair of classes votes, with every kernel and any order of the classes."""
    for estimator in (SVC(kernel=kernel), NuSVC(kernel=kernel, nu=0.2, gamma="auto")):
        fitted = make_pipeline(StandardScaler(), estimator).fit(X, target)
        assert_same_answers(plan_of(fitted), fitted, X)
    fitted = SVR(kernel=kernel, gamma=0.01).fit(X, X[:, 0])
    assert_same_answers(plan_of(fitted), fitted, X)


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
def test_networks(activation):
    """Classes, probabilities and outputs are those of the last layer."""
    arguments = {"activation": activation, "max_iter": 20, "random_state": 0}
    for estimator, target in [
        (MLPClassifier((5, 4), **arguments), y),
        (MLPClassifier(5, **arguments), np.array(["b", "a", "a"])[y]),
        (MLPRegressor(hidden_layer_sizes=5, **arguments), X[:, 0]),
        (MLPRegressor(hidden_layer_sizes=5, **arguments), X[:, :2]),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = estimator.fit(X, target)
        assert_same_answers(plan_of(fitted), fitted, X)


def test_several_labels_a_row_have_no_plan():
    """A row of labels is not one of the classes."""
    labels = np.column_stack([y > 0, y > 1, y == 1])
    for estimator in (
        RidgeClassifier(),
        MLPClassifier(3, solver="lbfgs", max_iter=2000, random_state=0),
    ):
        with pytest.raises(NoPlanError, match="several labels a row"):
            plan_of(estimator.fit(X, labels))


@pytest.mark.parametrize("loss", ["log_loss", "exponential"])
def test_two_classes_of_boosting(loss):
    """Of two classes there is one score, whose link depends on the loss."""
    fitted = GradientBoostingClassifier(n_estimators=5, random_state=0, loss=loss).fit(X, y > 0)
    assert_same_answers(plan_of(fitted), fitted, X)


FITTED = {}


def fit_once(estimator, target):
    key = str(estimator)
    if key not in FITTED:
        FITTED[key] = estimator.fit(X, target)
    return FITTED[key]


@pytest.mark.parametrize("load_data", [load_breast_cancer, load_digits, load_diabetes])
def test_large_forests_go_down_level_by_level(load_data):
    """A forest with more nodes than are compared at once has the same answers."""
    data = load_data()
    forest = RandomForestClassifier
    if load_data is load_diabetes:
        forest = RandomForestRegressor
    fitted = forest(100, random_state=0).fit(data.data, data.target)
    plan = plan_of(fitted, data.data.shape[1])
    assert_same_answers(plan, fitted, data.data[::29])


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(20, random_state=0),
        ExtraTreesClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_missing_values_go_where_the_tree_sends_them(estimator):
    """Trees that were fitted with gaps, and trees that were not, take missing values."""
    generator = np.random.default_rng(0)
    gaps = np.where(generator.random(X.shape) < 0.3, np.nan, X)
    for training in (X, gaps):
        fitted = estimator.fit(training, y)
        assert_same_answers(plan_of(fitted), fitted, gaps)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LinearRegression()),
        make_pipeline(StandardScaler(), Ridge()),
        make_pipeline(StandardScaler(), PoissonRegressor()),
        LinearRegression(),
    ],
    ids=str,
)
def test_linear_regressors(estimator):
    """Regressors have the sums of their estimator, one output or several."""
    fitted = estimator.fit(X, y)
    assert_same_answers(plan_of(fitted), fitted, X)
    if "Poisson" not in str(estimator):
        fitted = estimator.fit(X, np.column_stack([y, X[:, 0]]))
        assert_same_answers(plan_of(fitted), fitted, X)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(5, random_state=0),
        GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [2, 3]}),
        HistGradientBoostingRegressor(max_iter=5),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimator_is_not_called(estimator, monkeypatch):
    """A model with a plan predicts without its estimator; without the plan, by it alone."""
    fitted = estimator.fit(X, y)
    expected = fitted.predict(X[:100])
    planned = EstimatorModel(fitted, "", None)
    plain = EstimatorModel(fitted, "", None, use_plan=False)
    np.testing.assert_array_equal(plain.predict(X[:100]), expected)

    monkeypatch.setattr(type(fitted), "predict", None)
    np.testing.assert_array_equal(planned.predict(X[:100]), expected)
    with pytest.raises(TypeError):
        plain.predict(X)


def test_subclass_has_no_plan():
    """A class derived from one of scikit-learn may answer as it likes."""

    class Doubtful(RandomForestClassifier):
        def predict(self, rows):
            return np.zeros(len(rows), dtype=int)

    with pytest.raises(NoPlanError, match="Doubtful has no plan"):
        plan_of(Doubtful(5).fit(X, y))
