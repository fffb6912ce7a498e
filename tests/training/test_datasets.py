"""Every dataset that scikit-learn ships is trained and served as it is loaded."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import datasets
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from serving.model.loading import load_model
from serving.training.dataset import Dataset, TrainingData
from serving.training.features import DataError
from serving.training.training import train_model, write_model


@dataclass
class Case:
    """A loader of scikit-learn, an estimator for it, and the metrics that follow."""

    load: object
    build: object
    metrics: tuple[str, ...] = ("accuracy",)


BINARY = ("accuracy", "roc_auc", "average_precision")
REGRESSION = ("r2", "mae")

CASES = {
    "iris": Case(datasets.load_iris, GaussianNB),
    "wine": Case(datasets.load_wine, DecisionTreeClassifier),
    "breast cancer": Case(datasets.load_breast_cancer, GaussianNB, BINARY),
    "digits": Case(datasets.load_digits, GaussianNB),
    "diabetes": Case(datasets.load_diabetes, LinearRegression, REGRESSION),
    "linnerud": Case(datasets.load_linnerud, LinearRegression, REGRESSION),
    "iris as a frame": Case(lambda: datasets.load_iris(as_frame=True), GaussianNB),
    "wine as a frame": Case(lambda: datasets.load_wine(as_frame=True), DecisionTreeClassifier),
    "breast cancer as a frame": Case(
        lambda: datasets.load_breast_cancer(as_frame=True), GaussianNB, BINARY
    ),
    "diabetes as a frame": Case(
        lambda: datasets.load_diabetes(as_frame=True), LinearRegression, REGRESSION
    ),
    "linnerud as a frame": Case(
        lambda: datasets.load_linnerud(as_frame=True), LinearRegression, REGRESSION
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_dataset_of_scikit_learn_is_served(tmp_path, case):
    """The model predicts what the estimator that was fitted on the loaded data predicts."""
    bunch = case.load()
    dataset = Dataset.from_sklearn(bunch)
    model = train_model("m", dataset, case.build)
    write_model(tmp_path / "model.pkl", model)

    served = load_model(tmp_path / "model.pkl")
    expected = model.estimator.predict(bunch.data)
    np.testing.assert_allclose(served.predict(model.data.rows), expected, rtol=1e-9)
    cross_validation = served.card.metrics["cross_validation"]
    assert set(cross_validation) == {*case.metrics, "std", "folds"}
    assert set(case.metrics) <= set(served.card.metrics["held_out"])


X = np.random.default_rng(0).normal(size=(60, 3))
NUMBER = X[:, 0]

CLASSES = {
    "strings": np.where(NUMBER > 0, "yes", "no"),
    "numpy strings": np.where(NUMBER > 0, "yes", "no").astype("<U9"),
    "objects": np.where(NUMBER > 0, "yes", "no").astype(object),
    "booleans": NUMBER > 0,
    "negative integers": np.where(NUMBER > 0, 1, -1),
    "a list": np.where(NUMBER > 0, "yes", "no").tolist(),
    "a series": pd.Series(np.where(NUMBER > 0, "yes", "no")),
    "a polars series": pl.Series(np.where(NUMBER > 0, "yes", "no")),
    "a categorical series": pd.Series(np.where(NUMBER > 0, "yes", "no"), dtype="category"),
}


@pytest.mark.parametrize("y", CLASSES.values(), ids=CLASSES)
def test_classes_of_any_type(tmp_path, y):
    """Classes are strings, booleans or integers, and a label belongs to its class."""
    values = list(y)
    labels = {value: f"label of {value}" for value in set(values)}
    model = train_model("m", Dataset(X, y, labels=labels), LogisticRegression)
    card = write_model(tmp_path / "model.pkl", model)

    assert {found.value: found.label for found in card.classes} == labels
    for found in card.classes:
        assert found.share == values.count(found.value) / len(values)
    assert set(BINARY) <= set(card.metrics["cross_validation"])


def test_score_of_a_perfect_second_class():
    """The second class is the positive one, whatever its name is."""
    model = train_model("m", Dataset(X, CLASSES["strings"]), LogisticRegression)
    assert model.evaluation.held_out_metrics["roc_auc"] > 0.9


def test_frame_of_every_type(tmp_path):
    """The estimator is asked with the types of columns that it was fitted on."""
    frame = pd.DataFrame(
        {
            "number": NUMBER,
            "gaps": np.where(NUMBER > 1, np.nan, NUMBER),
            "count": (NUMBER * 10).astype(int),
            "flag": NUMBER > 0,
            "maybe": pd.array([None, True, False] * 20, dtype="boolean"),
            "colour": ["red", "green", None] * 20,
            "size": pd.Categorical(["s", "m", "l"] * 20),
            "code": pd.Categorical([3, 1, 2] * 20),
        }
    )
    data = TrainingData(Dataset(frame))
    types = {feature.name: (feature.type, feature.nullable) for feature in data.features}
    assert types == {
        "number": ("number", False),
        "gaps": ("number", True),
        "count": ("integer", False),
        "flag": ("boolean", False),
        "maybe": ("boolean", True),
        "colour": ("category", True),
        "size": ("category", False),
        "code": ("category", False),
    }
    assert data.X.dtypes.astype(str).tolist() == frame.dtypes.astype(str).tolist()
    pd.testing.assert_frame_equal(data.X, frame, check_categorical=False)


def test_polars_frame(tmp_path):
    """An estimator that was fitted on polars is asked with polars."""
    frame = pl.DataFrame({"number": NUMBER, "colour": ["red", "green", None] * 20})
    dataset = Dataset(frame, CLASSES["strings"])
    model = train_model(
        "m",
        dataset,
        lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
    )
    write_model(tmp_path / "model.pkl", model)
    served = load_model(tmp_path / "model.pkl")
    expected = model.estimator.predict(frame).tolist()
    assert served.predict(model.data.rows).tolist() == expected


def test_categories_of_the_frame_reach_the_estimator(tmp_path):
    """HistGradientBoosting takes its categories from the type of the column."""
    sizes = ["s", "m", "l"] * 20
    frame = pd.DataFrame({"size": pd.Categorical(sizes), "number": NUMBER})
    model = train_model(
        "m",
        Dataset(frame, np.array(sizes) == "m"),
        lambda: HistGradientBoostingClassifier(categorical_features="from_dtype"),
    )
    write_model(tmp_path / "model.pkl", model)
    served = load_model(tmp_path / "model.pkl")
    rows = served.signature.to_rows([["m", 0.0], ["s", 0.0], ["unseen", 0.0]])
    assert served.predict(rows).tolist() == [True, False, False]


def test_several_outputs_of_a_classifier(tmp_path):
    """A row is correct if all its outputs are."""
    y = np.column_stack([NUMBER > 0, X[:, 1] > 0])
    model = train_model(
        "m", Dataset(X, y), lambda: MultiOutputClassifier(RandomForestClassifier(5, random_state=0))
    )
    card = write_model(tmp_path / "model.pkl", model)
    assert card.classes == []
    assert 0.5 < card.metrics["held_out"]["accuracy"] <= 1


def test_several_labels_of_a_classifier(tmp_path):
    """A multilabel classifier is measured and served, even if a label comes late in the data."""
    late = np.arange(len(X)) >= 37
    y = np.column_stack([late, late & (X[:, 1] > 0)]).astype(int)
    model = train_model("m", Dataset(X, y), lambda: OneVsRestClassifier(LogisticRegression()))
    card = write_model(tmp_path / "model.pkl", model)
    assert set(card.metrics["held_out"]) == {"accuracy", "rows"}
    assert [row.features for row in card.reference] == X[[0, 37]].tolist()
    assert load_model(tmp_path / "model.pkl").predict(X[:2]).shape == (2, 2)


def test_outlier_detector_has_no_metrics(tmp_path):
    """Without a target nothing is measured, and the model is served."""
    model = train_model("m", Dataset(X), lambda: IsolationForest(n_estimators=10, random_state=0))
    card = write_model(tmp_path / "model.pkl", model)
    assert (card.task, card.metrics, card.classes) == ("outlier_detector", {}, [])
    assert load_model(tmp_path / "model.pkl").predict(X[:1]).tolist() in ([1], [-1])


def test_predictions_of_a_regressor_are_described(tmp_path):
    """The card has the bins of predictions for rows that the folds had not seen."""
    model = train_model("m", Dataset(X, NUMBER), lambda: RandomForestRegressor(5, random_state=0))
    card = write_model(tmp_path / "model.pkl", model)
    assert len(card.prediction.edges) == 6
    np.testing.assert_allclose(sum(card.prediction.shares), 1)


INVALID_DATA = {
    "dates": (pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-02"])}), "`day` holds"),
    "lists": (pd.DataFrame({"a": [[1], [2]]}), "column `a` holds list"),
    "mixed": (pd.DataFrame({"a": [1, "x"]}), "column `a` holds int and str"),
    "no value": (pd.DataFrame({"a": [None, None]}), "column `a` has no value"),
    "infinite": (np.array([[1.0], [np.inf]]), "column `x0` has an infinite value"),
    "one dimension": (np.array([1.0, 2.0]), r"X has the shape \(2,\)"),
    "number as name": (pd.DataFrame({0: [1, 2]}), "the name of a column must be a string, not 0"),
    "a name twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns have the name `a`"),
}


@pytest.mark.parametrize(("data", "message"), INVALID_DATA.values(), ids=INVALID_DATA)
def test_data_that_cannot_be_served_are_refused(data, message):
    """What no request could send is refused at training, and the column is named."""
    with pytest.raises(DataError, match=message):
        TrainingData(Dataset(data))


def test_few_texts_are_texts():
    """A list of texts is no category, however few different ones there are."""
    data = TrainingData(Dataset(["yes", "no"] * 5))
    assert [(feature.name, feature.type) for feature in data.features] == [("text", "text")]


def test_sparse_matrix_is_refused():
    """A sparse matrix comes from a step that belongs into the pipeline."""
    text = datasets.make_multilabel_classification(n_samples=10, sparse=True)[0]
    with pytest.raises(DataError, match="vectorize in the estimator's pipeline"):
        TrainingData(Dataset(text))


def test_rows_and_targets_have_one_length():
    """A target is needed for each row."""
    with pytest.raises(DataError, match="X has 60 rows, y has 59"):
        TrainingData(Dataset(X, NUMBER[:-1]))


def test_owner_decides_on_type_and_gaps():
    """`types` and `nullable` replace what the data tell."""
    frame = pd.DataFrame({"zip": [10115, 80331] * 30, "count": range(60)})
    data = TrainingData(Dataset(frame, types={"zip": "category"}, nullable={"count": True}))
    assert data.features[0].categories == [10115, 80331]
    assert (data.features[1].nullable, data.features[1].dtype) == (True, "float64")
    rows = data.signature.to_rows([[10115.0, None]])
    assert data.signature.to_input(rows).iloc[0].tolist()[0] == 10115


def test_served_frame_goes_through_transformers(tmp_path):
    """A transformer that uses the DataFrame's methods works as in training."""
    frame = pd.DataFrame({"a": NUMBER, "b": X[:, 1]})
    model = train_model(
        "m",
        Dataset(frame, CLASSES["strings"]),
        lambda: make_pipeline(StandardScaler(), FunctionTransformer(np.abs), DummyClassifier()),
    )
    write_model(tmp_path / "model.pkl", model)
    assert load_model(tmp_path / "model.pkl").predict(X[:2, :2]).shape == (2,)
