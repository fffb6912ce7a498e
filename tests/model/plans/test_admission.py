"""The admission of plans: a plan with any fault is refused, and the reason is in the model card."""

import json

import numpy as np
import pytest
from sklearn.ensemble import (
    AdaBoostClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fitted_estimators import X, y
from fixture_models import build_penguins_estimator, load_penguins
from helpers import card_fields
from serving.model.loading import load_model
from serving.model.plans.admission import check_plan
from serving.model.plans.building import build_plan
from serving.model.plans.columns import NoPlanError
from serving.model.signature import Signature
from serving.model.storage import save_model
from serving.training.dataset import Dataset, TrainingData


def forest_plan(estimator=None):
    fitted = (estimator or RandomForestClassifier(10, random_state=0)).fit(X, y)
    return build_plan(fitted, Signature([]), 4), fitted


def check(plan, fitted, rows=X):
    return check_plan(plan, fitted, Signature([]), rows, 10_000)


def test_compared_rows_are_counted():
    """The rows are those given, and the values at every threshold and beside it."""
    plan, fitted = forest_plan()
    n_thresholds = len(list(plan.predictor.trees.thresholds()))
    assert check(plan, fitted) > len(X) + 3 * n_thresholds
    assert check(plan, fitted, X[:1]) > 3 * n_thresholds


def move_threshold(plan):
    """Move one threshold to the next number."""
    threshold = plan.predictor.trees.threshold
    split = np.flatnonzero(np.isfinite(threshold))[0]
    threshold[split] = np.nextafter(np.float32(threshold[split]), np.float32(np.inf))


def shift_leaf(plan):
    """Change the largest probability of a leaf by a millionth."""
    plan.predictor.trees.values += 1e-6


def exchange_classes(plan):
    plan.predictor.classes = plan.predictor.classes[::-1]


FAULTS = [move_threshold, shift_leaf, exchange_classes]


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_fault_in_trees_is_found(spoil):
    """A plan whose trees differ in one number is refused."""
    plan, fitted = forest_plan()
    check(plan, fitted)
    spoil(plan)
    with pytest.raises(NoPlanError, match="differ from the estimator's"):
        check(plan, fitted)


def test_threshold_is_compared_with_few_rows():
    """A wrong threshold is found though no row of the training is near it."""
    plan, fitted = forest_plan(HistGradientBoostingClassifier(max_iter=5))
    threshold = plan.predictor.trees.threshold
    threshold[np.isfinite(threshold)] += 1e-9
    np.testing.assert_array_equal(plan.predict(X[:3]), fitted.predict(X[:3]))
    with pytest.raises(NoPlanError):
        check(plan, fitted, X[:3])


def test_fault_of_one_row_alone_is_found(monkeypatch):
    """A row alone is computed in another way than many, and compared as well."""
    plan, fitted = forest_plan()
    monkeypatch.setattr(
        plan.predictor.trees, "_leaves_of_one_row", lambda *_: plan.predictor.trees.roots
    )
    with pytest.raises(NoPlanError):
        check(plan, fitted)


def penguins_plan():
    frame = load_penguins()
    columns = [
        "bill_length_mm",
        "bill_depth_mm",
        "flipper_length_mm",
        "body_mass_g",
        "island",
        "sex",
    ]
    data = TrainingData(Dataset(frame[columns], frame["species"]))
    fitted = build_penguins_estimator().fit(data.X, data.y)
    return build_plan(fitted, data.signature, 6), fitted, data


def lookup_block(plan, source):
    return next(b for b in plan._builder.blocks if getattr(b, "source", None) == source)


def swap_unseen_and_missing(plan):
    block = lookup_block(plan, 5)
    block.table[[-1, -2]] = block.table[[-2, -1]]


def swap_categories(plan):
    block = lookup_block(plan, 4)
    block.table[[0, 1]] = block.table[[1, 0]]


def fill_with_another_number(plan):
    block = next(block for block in plan._builder.blocks if hasattr(block, "steps"))
    block.steps[0][1][0] += 1.0


@pytest.mark.parametrize(
    "spoil",
    [swap_unseen_and_missing, swap_categories, fill_with_another_number],
    ids=lambda spoil: spoil.__name__,
)
def test_fault_in_columns_is_found(spoil):
    """A plan that encodes a category or a missing value in another way is refused."""
    plan, fitted, data = penguins_plan()
    rows = data.rows[:20]
    check_plan(plan, fitted, data.signature, rows, 10_000)
    spoil(plan)
    with pytest.raises(NoPlanError, match="differ from the estimator's"):
        check_plan(plan, fitted, data.signature, rows, 10_000)


def test_answer_where_estimator_refuses_is_found():
    """A plan that takes a missing value, which the estimator refuses, is refused."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    plan = build_plan(fitted, Signature([]), 4)
    plan.predictor.takes_missing = True
    rows = np.full((1, 4), np.nan)
    assert plan.predict(rows) is not None
    with pytest.raises(NoPlanError, match="where the estimator refuses"):
        check(plan, fitted, rows)


def saved(path, estimator):
    save_model(path, estimator, reference=X[::50], training_rows=X, **card_fields(estimator))
    return json.loads(path.with_suffix(".json").read_bytes())


def test_card_names_plan_and_rows(tmp_path):
    """The card says which plan was compared, and for how many rows."""
    path = tmp_path / "model.pkl"
    plan = saved(path, RandomForestClassifier(5, random_state=0).fit(X, y))["prediction_plan"]
    assert plan["kind"] == "trees"
    assert plan["compared_rows"] > len(X)
    assert load_model(path).plan
    assert load_model(path, use_plan=False).plan is None


def test_card_says_why_there_is_no_plan(tmp_path):
    """An estimator without a plan is saved with the reason, and predicts itself."""
    path = tmp_path / "model.pkl"
    fitted = AdaBoostClassifier(n_estimators=2, random_state=0).fit(X, y)
    plan = saved(path, fitted)["prediction_plan"]
    assert plan == {"reason": "AdaBoostClassifier has no plan"}
    model = load_model(path)
    assert model.plan is None
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))


def test_plan_that_was_refused_at_training_is_not_used(tmp_path):
    """What the card says decides, though a plan could be made."""
    path = tmp_path / "model.pkl"
    card = saved(path, LogisticRegression(max_iter=500).fit(X, y))
    card["prediction_plan"] = {"reason": "its answers differ from the estimator's"}
    path.with_suffix(".json").write_text(json.dumps(card))
    assert load_model(path).plan is None


def test_reason_of_the_card_is_kept(tmp_path):
    """A model whose plan was refused at training has the reason that its card gives."""
    path = tmp_path / "model.pkl"
    card = saved(path, RandomForestClassifier(5, random_state=0).fit(X, y))
    card["prediction_plan"] = {"reason": "it did not answer as the estimator"}
    path.with_suffix(".json").write_text(json.dumps(card))
    model = load_model(path)
    assert (model.plan, model.plan_refusal) == (None, "it did not answer as the estimator")
    assert load_model(path, use_plan=False).plan_refusal == "it is turned off"


@pytest.mark.parametrize("has_card", [True, False], ids=["earlier card", "no card"])
def test_plan_without_admission_is_compared_at_start(tmp_path, monkeypatch, has_card):
    """With an earlier card or none, the plan is compared when the model is loaded."""
    path = tmp_path / "model.pkl"
    card = saved(path, RandomForestClassifier(5, random_state=0).fit(X, y))
    del card["prediction_plan"]
    path.with_suffix(".json").write_text(json.dumps(card))
    if not has_card:
        path.with_suffix(".json").unlink()
    assert load_model(path).plan

    def spoiled_plan(*arguments):
        plan = build_plan(*arguments)
        move_threshold(plan)
        return plan

    monkeypatch.setattr("serving.model.estimator_model.build_plan", spoiled_plan)
    model = load_model(path)
    assert model.plan is None
    assert model.plan_refusal == "its answers differ from the estimator's"
