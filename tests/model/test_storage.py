"""The model as a value: every estimator of scikit-learn through a file and back; every pair that must be refused."""

import inspect
import logging
import re
import shutil
import warnings

import joblib
import msgspec
import numpy as np
import pytest
import sklearn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

from app import create_app
from helpers import JSON, ROOT, facts, in_process
from serving.model.errors import ModelError
from serving.model.linear import as_linear_classifier
from serving.model.model import Model
from serving.model.storage import load_model, save_model

X, y = load_iris(return_X_y=True)


def saved(path, estimator):
    save_model(path, estimator, reference=X[::50], **facts(estimator))
    return load_model(path)


def required(estimator, kind):
    """Return what an estimator that wraps others cannot do without, and a seed for one that draws."""
    inner = LogisticRegression(max_iter=500) if kind == "classifier" else LinearRegression()
    arguments = {"estimator": inner, "estimators": [("inner", inner)], "random_state": 0}
    parameters = inspect.signature(estimator).parameters
    return {
        name: value
        for name, value in arguments.items()
        if name in parameters
        and (name == "random_state" or parameters[name].default in (inspect.Parameter.empty, None))
    }


ESTIMATORS = [
    pytest.param(estimator, kind, id=name)
    for kind in ("classifier", "regressor")
    for name, estimator in all_estimators(kind)
    if name != "IsotonicRegression"  # takes one column and no table
]
TWO_COLUMNS = np.c_[y, X[:, 3] > 1]
TARGETS = {  # of those that do not take one column of three classes
    "FixedThresholdClassifier": y > 0,
    "TunedThresholdClassifierCV": y > 0,
    "ClassifierChain": np.c_[y > 0, y > 1],
    "GammaRegressor": y + 1,
    **dict.fromkeys(
        ("CCA", "PLSCanonical", "MultiOutputClassifier", "MultiOutputRegressor"), TWO_COLUMNS
    ),
    **{
        name: TWO_COLUMNS for name, _ in all_estimators("regressor") if name.startswith("MultiTask")
    },
    "RegressorChain": TWO_COLUMNS,
}


@pytest.mark.parametrize(("estimator", "kind"), ESTIMATORS)
def test_every_estimator_of_scikit_learn_survives_the_file(tmp_path, estimator, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some have opinions on iris
        fitted = estimator(**required(estimator, kind)).fit(X, TARGETS.get(estimator.__name__, y))
        model = saved(tmp_path / "model.pkl", fitted)
        got, want = model.predict(X), fitted.predict(X)
        if (
            np.asarray(want).dtype.kind == "f"
        ):  # the same sum over memory that is aligned otherwise: the last bits differ
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
        else:
            np.testing.assert_array_equal(got, want)
        if model.has_probabilities:
            np.testing.assert_allclose(model.probabilities(X), fitted.predict_proba(X), rtol=1e-9)


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
def test_so_do_pipelines_searches_and_wrappers(tmp_path, estimator):
    fitted = estimator.fit(X, y)
    model = saved(tmp_path / "model.pkl", fitted)
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))


def test_classes_may_be_words(tmp_path):
    words = np.array(["no", "maybe", "yes"], dtype=object)[y]
    app = app_of(tmp_path, LogisticRegression(max_iter=500).fit(X, words))
    answer = ask(app, {"features": X[0].tolist(), "outputs": ["label", "probability"]})
    assert (answer["prediction"], answer["label"]) == (["no"], ["class no"])
    assert np.argmax(answer["probability"][0]) == 1


def test_a_regressor_is_served_and_has_neither_labels_nor_probabilities(tmp_path):
    fitted = LinearRegression().fit(X, X[:, 0] / 3)
    app = app_of(tmp_path, fitted)
    assert ask(app, {"features": X[:2].tolist()}) == {"prediction": fitted.predict(X[:2]).tolist()}
    for i, output in enumerate(["label", "probability"]):
        outputs = ["label", "probability"][i:]
        message = f"This model has no {output} - at `$.outputs[0]`"
        assert ask(app, {"features": X[0].tolist(), "outputs": outputs}, 400) == {"error": message}


def test_several_outputs_are_rows_of_predictions(tmp_path):
    fitted = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, TWO_COLUMNS)
    app = app_of(tmp_path, fitted)
    assert ask(app, {"features": X[:2].tolist()}) == {"prediction": fitted.predict(X[:2]).tolist()}
    assert (
        "no probability"
        in ask(app, {"features": X[0].tolist(), "outputs": ["probability"]}, 400)["error"]
    )


def test_values_outside_a_models_domain_are_the_clients_fault(tmp_path, caplog):
    app = app_of(tmp_path, make_pipeline(FunctionTransformer(np.log), Ridge()).fit(X, y))
    assert ask(app, {"features": [1, 1, 1, -1]}, 400) == {
        "error": "The model cannot score these values"
    }
    assert "the estimator rejected a request: ValueError in _assert_all_finite" in caplog.text
    assert ask(app, {"features": X[0].tolist()})


def test_an_answer_that_is_not_finite_is_none(tmp_path):
    fitted = LinearRegression().fit(X, y)
    fitted.coef_ = np.full(4, 1e300)
    app = app_of(tmp_path, fitted)
    features = [X[0].tolist(), [3e38] * 4]
    assert ask(app, {"features": features}, 400) == {
        "error": "The model has no finite prediction for row 1"
    }


def test_the_articles_nine_lines_make_a_model_that_is_served(tmp_path, caplog):
    path = tmp_path / "model.pkl"
    joblib.dump(LogisticRegression(max_iter=200).fit(X, y), path)
    app = create_app(MODEL_PATH=str(path))
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        f"{path} has no model card: no feature names, labels, drift reference or self-test"
    )
    answer = ask(app, {"features": [5.1, 3.5, 1.4, 0.2], "outputs": ["probability"]})
    assert answer["prediction"] == [0]
    assert len(answer["probability"][0]) == 3
    message = "Object contains unknown field `sepal length (cm)` - at `$.features`"
    assert ask(app, {"features": {"sepal length (cm)": 1}}, 400) == {"error": message}
    assert "no label" in ask(app, {"features": [1, 2, 3, 4], "outputs": ["label"]}, 400)["error"]
    assert in_process(app, "GET", "/readyz").status == 200


def test_a_model_fitted_on_a_data_frame_is_served_by_the_cards_names(tmp_path):
    fitted = LogisticRegression(max_iter=500).fit(X, y)
    fitted.feature_names_in_ = np.array(
        ["a", "b", "c", "d"], dtype=object
    )  # as pandas would have left it
    app = app_of(tmp_path, fitted)
    assert ask(app, {"features": dict(zip("dcba", X[0][::-1].tolist(), strict=True))}) == {
        "prediction": [0]
    }


def app_of(tmp_path, fitted):
    saved(tmp_path / "model.pkl", fitted)
    return create_app(MODEL_PATH=str(tmp_path / "model.pkl"))


def ask(app, members, status=200):
    answer = in_process(app, "POST", "/predict", msgspec.json.encode(members), JSON)
    assert answer.status == status, answer.body
    return answer.json


@pytest.fixture
def pair(tmp_path):
    """Return the path of a copy of model.pkl, with model.json beside it."""
    for name in ("model.pkl", "model.json"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path / "model.pkl"


def edit(path, change):
    card = msgspec.json.decode(path.read_bytes())
    change(card)
    path.write_bytes(msgspec.json.encode(card))


def test_a_digest_may_be_asked_for(pair):
    digest = load_model(pair).sha256
    assert load_model(pair, digest.upper()).version == digest[:12]
    with pytest.raises(
        ModelError, match=f"{pair}: SHA-256 mismatch: the file has {digest}, MODEL_SHA256 is 00"
    ):
        load_model(pair, "00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(sha256="0" * 64), "model card model.json lists 0000"),
        (
            lambda card: card["libraries"].update({"scikit-learn": "1.0"}),
            "trained with scikit-learn 1.0, .* is installed",
        ),
        (
            lambda card: card["libraries"].clear(),
            "trained with an unknown scikit-learn version, .* is installed",
        ),
        (
            lambda card: card["classes"].pop(),
            r"model card lists classes \[0, 1\], but the estimator has \[0, 1, 2\]",
        ),
        (
            lambda card: card["features"].pop(),
            "model card lists 3 features, but the estimator has 4",
        ),
        (lambda card: card["reference"].clear(), "self-test failed: ValueError: "),
        (
            lambda card: card["reference"][0].update(prediction=1),
            "differ from the reference rows",
        ),
        (
            lambda card: card["reference"][0].update(probability=[1, 0, 0]),
            "differ from the reference rows",
        ),
        (
            lambda card: card.update(x=1),
            "model card model.json cannot be read: .*unknown field `x`",
        ),
        (
            lambda card: card.pop("rows"),
            "model card model.json cannot be read: .*missing required field `rows`",
        ),
    ],
)
def test_a_card_that_is_not_the_models_is_refused(pair, change, message):
    edit(pair.with_suffix(".json"), change)
    with pytest.raises(ModelError, match=message):
        load_model(pair)


def test_a_new_model_beside_an_old_card_is_refused(pair):
    joblib.dump(LogisticRegression(C=0.1).fit(X, y), pair)
    with pytest.raises(
        ModelError, match=r"SHA-256 mismatch: the file has .*, model card model.json lists"
    ):
        load_model(pair)


def test_another_scikit_learns_model_without_a_card_is_refused(tmp_path):
    # Pickled by hand, but for the version that scikit-learn writes into each of its pickles.
    other = re.sub("[0-9]", "0", sklearn.__version__)
    path = tmp_path / "model.pkl"
    path.write_bytes(
        (ROOT / "model.pkl").read_bytes().replace(sklearn.__version__.encode(), other.encode())
    )
    with pytest.raises(ModelError, match=f"trained with scikit-learn {other}, .* is installed"):
        load_model(path)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ({"a": 1}, "not an estimator instance"),
        (StandardScaler().fit(X), "StandardScaler has no predict"),
        (LogisticRegression(), "NotFittedError"),
    ],
    ids=["a dict", "a scaler", "not fitted"],
)
def test_what_is_not_a_model_is_refused(tmp_path, thing, message):
    path = tmp_path / "model.pkl"
    joblib.dump(thing, path)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_a_failed_save_leaves_the_old_pair(pair):
    old = {path.name: path.read_bytes() for path in pair.parent.iterdir()}
    fitted = LogisticRegression(max_iter=500).fit(X, y)
    fitted.extra = lambda: None  # cannot be pickled
    with pytest.raises(Exception, match="lambda"):
        save_model(pair, fitted, reference=X[:1], **facts(fitted))
    assert {path.name: path.read_bytes() for path in pair.parent.iterdir()} == old


def test_the_file_is_a_bare_estimator_for_anyone(pair):
    assert joblib.load(pair).predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == [0]


def linear_classifiers():
    fitted = {"three classes": LogisticRegression(max_iter=500).fit(X, y)}
    fitted["two classes"] = LogisticRegression(max_iter=500).fit(X, y > 1)
    fitted["words"] = LogisticRegression(max_iter=500).fit(X, np.array(["a", "b", "c"])[y])
    fitted["no intercept"] = LogisticRegression(max_iter=500, fit_intercept=False).fit(X, y)
    fitted["perceptron"] = Perceptron().fit(X, y)
    fitted["support vectors"] = LinearSVC(max_iter=100_000).fit(X, y)
    ties = LogisticRegression(max_iter=500).fit(X, y)
    ties.coef_, ties.intercept_ = np.ones_like(ties.coef_), np.zeros_like(ties.intercept_)
    fitted["ties"] = ties
    return [pytest.param(estimator, id=name) for name, estimator in fitted.items()]


@pytest.mark.parametrize("fitted", linear_classifiers())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=arrays(
        np.float64, st.tuples(st.integers(1, 20), st.just(4)), elements=st.floats(-3e38, 3e38)
    )
)
def test_the_coefficients_answer_as_the_estimator_does(fitted, rows):
    model, expected = Model(fitted, "", None), fitted.predict(rows)
    scores = fitted.decision_function(rows).reshape(len(rows), -1)
    gaps = np.diff(
        np.sort(np.column_stack([scores, np.zeros((len(rows), int(scores.shape[1] == 1)))]))
    )[:, -1]
    # Another order of the same sum may round otherwise: nearer than that, either class is the largest.
    sure = gaps > 1e-14 * (np.abs(rows) @ np.abs(fitted.coef_).T).max(axis=1)
    if not fitted.coef_.std(axis=0).any() and len(fitted.coef_) > 1:
        sure[:] = True  # scores that are one sum are equal in any order, and the first is taken
    one_by_one = np.concatenate([model.predict(rows[i : i + 1]) for i in range(len(rows))])
    for answer in (model.predict(rows), one_by_one):
        np.testing.assert_array_equal(answer[sure], expected[sure], strict=True)
    if model.has_probabilities:
        shares = fitted.predict_proba(rows)
        # A score is as exact as the largest of what it sums: beyond that only 0 and 1 can be told apart.
        exact = (np.abs(rows) @ np.abs(fitted.coef_).T).max(axis=1) < 1e6
        exact |= sure & (gaps > 1e3)
        one_by_one = np.concatenate(
            [model.probabilities(rows[i : i + 1]) for i in range(len(rows))]
        )
        for answer in (model.probabilities(rows), one_by_one):
            np.testing.assert_allclose(answer[exact], shares[exact], atol=1e-8)
            np.testing.assert_allclose(answer.sum(axis=1), 1)


@pytest.mark.parametrize("fitted", linear_classifiers())
def test_a_linear_classifier_is_not_asked_for_what_its_coefficients_say(fitted, monkeypatch):
    expected = fitted.predict(X)
    model = Model(fitted, "", None)
    monkeypatch.setattr(fitted, "predict", None)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_a_subclass_that_answers_in_its_own_way_keeps_it():
    class Shy(LogisticRegression):
        def predict(self, rows):
            return np.zeros(len(rows), dtype=int)

    assert Model(Shy(max_iter=500).fit(X, y), "", None).predict(X[-1:]).tolist() == [0]


def test_scores_that_could_overflow_are_the_estimators():
    fitted = LogisticRegression(max_iter=500).fit(X, y)
    assert as_linear_classifier(fitted)
    fitted.coef_ = fitted.coef_ * 1e300
    assert as_linear_classifier(fitted) is None


def test_a_sparse_classifier_is_served():
    fitted = LogisticRegression(max_iter=500).fit(X, y)
    expected = fitted.predict(X)
    np.testing.assert_array_equal(Model(fitted.sparsify(), "", None).predict(X), expected)


def test_coefficients_that_answer_otherwise_than_the_estimator_are_noticed(tmp_path):
    path = tmp_path / "model.pkl"
    fitted = LinearSVC(max_iter=100_000).fit(
        X, y
    )  # no probabilities, which would be noticed as well
    save_model(path, fitted, reference=X[::50], **facts(fitted))
    model = load_model(path)
    model.estimator.intercept_ = model.estimator.intercept_[::-1] * 1e3
    with pytest.raises(ModelError, match="differ from the reference rows"):
        model.self_test()
