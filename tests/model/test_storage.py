"""Model files: the pairs of model and card that load, and those that are rejected."""

import re

import joblib
import msgspec
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from helpers import MODEL_FILE, card_fields
from serving.model.card import values_match
from serving.model.errors import ModelError
from serving.model.estimator_model import EstimatorModel
from serving.model.loading import load_model
from serving.model.storage import describe_estimator, save_model

X, y = load_iris(return_X_y=True)


def edit_card(path, change):
    card = msgspec.json.decode(path.read_bytes())
    change(card)
    path.write_bytes(msgspec.json.encode(card))


def read_directory(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_load_checks_expected_digest(model_path):
    """A digest may be passed in either case; another one is rejected."""
    digest = load_model(model_path).sha256
    assert load_model(model_path, digest.upper()).version == digest[:12]
    message = f"{model_path}: SHA-256 mismatch: the file has {digest}, MODEL_SHA256 is 00"
    with pytest.raises(ModelError, match=message):
        load_model(model_path, "00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(sha256="0" * 64), "its model card lists 0000"),
        (
            lambda card: card["libraries"].update({"scikit-learn": "1.0"}),
            "trained with scikit-learn 1.0, .* is installed; retrain or install 1.0",
        ),
        (
            lambda card: card["libraries"].clear(),
            "trained with an unknown scikit-learn version, .* is installed; retrain",
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
            "self-test failed: the predictions differ from the reference rows",
        ),
        (
            lambda card: card["reference"][0].update(probability=[1, 0, 0]),
            "self-test failed: the predictions differ from the reference rows",
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
def test_load_rejects_card_of_other_model(model_path, change, message):
    """A card that differs from the model in any member that is checked is rejected."""
    edit_card(model_path.with_suffix(".json"), change)
    with pytest.raises(ModelError, match=message):
        load_model(model_path)


def test_estimator_is_described_without_addresses():
    """The card of a function in a pipeline has the same bytes in each process."""
    transformer = FunctionTransformer(make_pipeline)
    assert describe_estimator(transformer) == "FunctionTransformer(func=<function make_pipeline>)"


def test_card_without_signature_is_loaded(model_path):
    """A card from before the signature describes a model of numbers in an array."""

    def remove_new_members(card):
        for name in ("task", "input", "prediction"):
            del card[name]

    edit_card(model_path.with_suffix(".json"), remove_new_members)
    model = load_model(model_path)
    assert (model.card.task, model.card.input) == (None, "array")
    assert {feature.type for feature in model.card.features} == {"number"}


def test_load_rejects_model_beside_old_card(model_path):
    """A new model beside an old card is rejected by its digest."""
    joblib.dump(LogisticRegression(C=0.1).fit(X, y), model_path)
    message = r"SHA-256 mismatch: the file has .*, its model card lists"
    with pytest.raises(ModelError, match=message):
        load_model(model_path)


def test_load_rejects_other_scikit_learn_without_card(tmp_path):
    """Without a card the version in the pickle itself is checked."""
    # scikit-learn writes its version into each pickle.
    other_version = re.sub("[0-9]", "0", sklearn.__version__)
    content = MODEL_FILE.read_bytes()
    path = tmp_path / "model.pkl"
    path.write_bytes(content.replace(sklearn.__version__.encode(), other_version.encode()))
    message = f"trained with scikit-learn {other_version}, .* is installed"
    with pytest.raises(ModelError, match=message):
        load_model(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not an estimator instance"),
        (StandardScaler().fit(X), "StandardScaler has no predict method"),
        (LogisticRegression(), "NotFittedError"),
    ],
    ids=["a dict", "a scaler", "not fitted"],
)
def test_load_rejects_what_is_no_model(tmp_path, content, message):
    """A pickle of anything but a fitted estimator with `predict` is rejected."""
    path = tmp_path / "model.pkl"
    joblib.dump(content, path)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_failed_save_keeps_old_files(model_path):
    """An estimator that cannot be pickled leaves the old model and the old card."""
    contents = read_directory(model_path.parent)
    fitted = LogisticRegression(max_iter=500).fit(X, y)
    fitted.extra = lambda: None  # cannot be pickled
    with pytest.raises(Exception, match="lambda"):
        save_model(model_path, fitted, reference=X[:1], **card_fields(fitted))
    assert read_directory(model_path.parent) == contents


def test_file_is_a_bare_estimator(model_path):
    """The joblib library alone loads the file and predicts."""
    assert joblib.load(model_path).predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == [0]


def test_self_test_compares_plan_and_estimator(save_and_load):
    """Answers other than those of the card fail the self-test, by the plan or by the estimator."""
    # Without probabilities, which would differ as well.
    model = save_and_load(LinearSVC(max_iter=100_000).fit(X, y))
    model.estimator.intercept_ = model.estimator.intercept_[::-1] * 1e3
    model.self_test()
    with pytest.raises(ModelError, match="differ from the reference rows"):
        model.test_estimator()

    changed = EstimatorModel(model.estimator, model.sha256, model.card)
    with pytest.raises(ModelError, match="differ from the reference rows"):
        changed.self_test()


def test_self_test_compares_numbers_of_regressor(save_and_load):
    """A regressor may differ by rounding, and by no more."""
    model = save_and_load(LinearRegression().fit(X, y))
    model.estimator.intercept_ += 1e-12
    model.test_estimator()
    model.estimator.intercept_ += 1e-3
    with pytest.raises(ModelError, match="differ from the reference rows"):
        model.test_estimator()


@pytest.mark.parametrize(
    ("actual", "expected", "match"),
    [
        ([0.1, 0.2], [0.1, 0.2 + 1e-9], True),
        ([0.1, 0.2], [0.1, 0.2001], False),
        ([1.0, 2.0], [1, 2], True),
        ([1], [2], False),
        ([10**9], [10**9 + 1], False),  # whole numbers are compared exactly
        ([0.5], [0.5, 0.5], False),
        ([[0.5], [0.5]], [0.5], False),
        ([[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.0]], True),
        ([[1.0], [1.0, 2.0]], [[1.0], [1.0]], False),
        (["a", "b"], ["a", "b"], True),
        (["1.0"], [1.0], False),
        ([1.0], [None], False),
        ("ready", "ready", True),
        (None, 0.5, False),
    ],
)
def test_values_match_allows_rounding_only(actual, expected, match):
    """Numbers may differ by rounding; shapes, words and whole numbers must be equal."""
    assert values_match(actual, expected) is match
    assert values_match(expected, actual) is match
