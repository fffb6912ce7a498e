"""Models of plan files: the answers of the pickle, without its estimator."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from helpers import card_fields
from serving.export_plan import export_plan
from serving.model.card import FeatureInfo
from serving.model.errors import InvalidInput, ModelError
from serving.model.loading import load_model
from serving.model.storage import save_model
from zoo import ZOO
from zoo_models import zoo_model

X, y = load_iris(return_X_y=True)


def plan_model(path):
    """Write the plan file beside a pickle, and load it."""
    model = load_model(path)
    plan_path = path.with_suffix(".plan")
    plan_path.write_bytes(export_plan(model, model.card))
    return load_model(plan_path)


@pytest.fixture
def save(tmp_path):
    """Return a function that saves a fitted estimator and returns the path."""

    def save_estimator(estimator, **fields):
        path = tmp_path / "model.pkl"
        save_model(path, estimator, **card_fields(estimator) | {"reference": X[::30]} | fields)
        return path

    return save_estimator


@pytest.mark.parametrize("name", ZOO)
def test_plan_file_answers_as_the_pickle(name):
    """Where a plan covers the model, its file alone gives the same answers."""
    _, path = zoo_model(name)
    model = load_model(path)
    if model.plan is None or model.has_probabilities != model.plan.has_probabilities:
        with pytest.raises(ModelError, match="plan"):
            plan_model(path)
        return

    planned = plan_model(path)
    rows = model.example_rows()
    rows = rows[np.arange(300) % len(rows)]  # more than some plans take at once
    np.testing.assert_array_equal(planned.example_rows(), model.example_rows())
    expected = model.predict(rows)
    answer = planned.predict(rows)
    assert answer.dtype == expected.dtype
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(answer, expected, rtol=1e-9, atol=1e-9)
    else:
        np.testing.assert_array_equal(answer, expected)
    if model.has_probabilities:
        np.testing.assert_allclose(
            planned.probabilities(rows), model.probabilities(rows), rtol=1e-9, atol=1e-9
        )

    facts = ("version", "features", "labels", "has_probabilities", "is_regressor", "has_labels")
    for fact in (*facts, "has_several_outputs", "n_features"):
        assert getattr(planned, fact) == getattr(model, fact), fact
    np.testing.assert_array_equal(planned.classes, model.classes)


def test_zoo_has_models_with_plan():
    """The test above compares models of several kinds."""
    kinds = set()
    for name in ZOO:
        plan = load_model(zoo_model(name)[1]).plan
        kinds.add(plan and plan.name)
    assert {"linear", "trees", None} < kinds


def test_refused_values_are_invalid(save):
    """What the estimator refuses is invalid input, with the reason."""
    categories = np.array([["a", 1.0], ["b", 2.0], ["c", 3.0]] * 50, dtype=object)
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(categories, y)
    third = [1 / 3] * 3
    features = [
        FeatureInfo(name="letter", type="category", categories=["a", "b", "c"], shares=third),
        FeatureInfo(name="number", type="category", categories=[1, 2, 3], shares=third),
    ]
    path = save(estimator, features=features, reference=[["a", 1], ["b", 2], ["c", 3]])
    rows = np.array([["a", 1], ["z", 2]], dtype=object)
    messages = []
    for model in (load_model(path), plan_model(path)):
        with pytest.raises(InvalidInput) as caught:
            model.predict(rows)
        messages.append(str(caught.value))
    assert messages == ["The model cannot score the category of `letter` in row 1"] * 2


def test_numbers_beyond_float32_are_invalid(save):
    """A scaler can make a number that no plan takes; of linear models the pickle takes it."""
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(X * 1e-30, y)
    path = save(scaled, reference=X[:3] * 1e-30)
    row = np.full((1, 4), 1e30)
    assert len(load_model(path).predict(row)) == 1
    with pytest.raises(InvalidInput, match="cannot score these values"):
        plan_model(path).predict(row)


def test_plan_without_probabilities_is_not_exported(save):
    """A plan that answers less than the model is no replacement."""
    estimator = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    with pytest.raises(ModelError, match="has no class probabilities"):
        plan_model(save(estimator))


def test_sparse_coefficients_are_not_exported(save):
    """A plan file holds arrays; sparse coefficients need scipy."""
    estimator = LogisticRegression(max_iter=500).fit(X, y).sparsify()
    with pytest.raises(ModelError, match="csr_matrix cannot be written into a plan file"):
        plan_model(save(estimator))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-9], "no plan file"),
        (lambda content: b"", "no plan file"),
        (lambda content: content.replace(b"LinearClassifier", b"SimulatedAnneals"), "no plan file"),
        (lambda content: content.replace(b"has_probabilities", b"has_probabilitiez"), "no plan fi"),
        (lambda content: content.replace(b"<f8", b"|O8"), "no plan file"),
        (lambda content: content.replace(b"\xa6format\x01", b"\xa6format\x02"), "format 2, not 1"),
    ],
    ids=["cut off", "empty", "other object", "other argument", "objects", "other format"],
)
def test_spoiled_plan_file_is_refused(save, spoil, message):
    """A file that cannot be read is one line with the reason."""
    path = save(LogisticRegression(max_iter=500).fit(X, y))
    plan_model(path)
    plan_path = path.with_suffix(".plan")
    spoiled = spoil(plan_path.read_bytes())
    assert spoiled != plan_path.read_bytes()
    plan_path.write_bytes(spoiled)
    with pytest.raises(ModelError, match=message):
        load_model(plan_path)


def test_hostile_plan_file_calls_nothing(save, tmp_path, monkeypatch):
    """A step can only name an element-wise function of numpy, and nothing that touches files."""
    monkeypatch.chdir(tmp_path)
    path = save(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X, y))
    plan_model(path)
    plan_path = path.with_suffix(".plan")
    content = plan_path.read_bytes()
    for name in (b"\xa4save", b"\xa8fromfile", b"\xa7__all__"):
        plan_path.write_bytes(content.replace(b"\xa8subtract", name))
        with pytest.raises(ModelError, match="is no step of a plan"):
            load_model(plan_path)
    assert sorted(tmp_path.iterdir()) == [path.with_suffix(".json"), path, plan_path]


def test_plan_of_another_model_is_refused(save):
    """A plan file is of the pickle that its card is of."""
    path = save(LogisticRegression(max_iter=500).fit(X, y))
    plan_model(path)
    save(RandomForestClassifier(5, random_state=0).fit(X, y))
    with pytest.raises(ModelError, match="export it again"):
        load_model(path.with_suffix(".plan"))


def test_changed_plan_fails_self_test(save):
    """A coefficient that has changed is found by the reference rows."""
    path = save(LogisticRegression(max_iter=500).fit(X, y))
    plan_model(path)
    plan_path = path.with_suffix(".plan")
    coefficients = load_model(path).estimator.coef_
    content = plan_path.read_bytes()
    spoiled = content.replace(coefficients.tobytes(), (2 * coefficients).tobytes())
    assert spoiled != content
    plan_path.write_bytes(spoiled)
    with pytest.raises(ModelError, match="self-test failed"):
        load_model(plan_path)


def test_plan_file_needs_card_and_plans(save):
    """A plan file has no card of its own, and nothing but the plan."""
    path = save(LogisticRegression(max_iter=500).fit(X, y))
    plan_model(path)
    plan_path = path.with_suffix(".plan")
    with pytest.raises(ModelError, match="PREDICTION_PLAN is off"):
        load_model(plan_path, use_plan=False)
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="needs its model card"):
        load_model(plan_path)
    plan_path.unlink()
    with pytest.raises(ModelError, match=r"serving.export_plan` writes one from model.pkl"):
        load_model(plan_path)
