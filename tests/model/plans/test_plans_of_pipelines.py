"""Prediction plans of pipelines: the columns of scalers, imputers, selections and encoders."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from fitted_estimators import X, y
from fixture_models import MEASUREMENTS, load_penguins
from plan_answers import assert_same_answers, plan_of
from serving.training.dataset import Dataset, TrainingData

CATEGORIES = ["island", "sex"]
PENGUINS = load_penguins()

STEPS = [
    (StandardScaler(),),
    (StandardScaler(with_mean=False),),
    (StandardScaler(with_std=False),),
    (MinMaxScaler(clip=True),),
    (MinMaxScaler((-1, 2)),),
    (MaxAbsScaler(),),
    (RobustScaler(),),
    (RobustScaler(with_centering=False), StandardScaler()),
    (FunctionTransformer(np.arctan), StandardScaler()),
    (FunctionTransformer(), "passthrough"),
    (make_union(StandardScaler(), MinMaxScaler()),),
    (make_column_transformer((StandardScaler(), [2, 0]), remainder="passthrough"),),
    (make_column_transformer((StandardScaler(), slice(1, 3)), ("drop", [0])),),
    (make_column_transformer((StandardScaler(), [True, False, True, False])),),
    (VarianceThreshold(0.2), StandardScaler()),
    (SelectKBest(k=2),),
    (make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [3])),),
]


@pytest.mark.parametrize("steps", STEPS, ids=str)
@pytest.mark.parametrize(
    "last", [LogisticRegression(max_iter=5000), RandomForestClassifier(5, random_state=0)]
)
def test_transformers_of_numbers(steps, last):
    """Scaled, selected and combined columns are those of the pipeline, to the last bit of trees."""
    fitted = make_pipeline(*steps, last).fit(X, y)
    assert_same_answers(plan_of(fitted), fitted, X)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
def test_imputed_numbers(strategy):
    """Missing numbers are replaced, and told apart by an indicator."""
    gaps = X.copy()
    gaps[::7, 1] = np.nan
    imputer = SimpleImputer(strategy=strategy, fill_value=-1.0, add_indicator=True)
    fitted = make_pipeline(imputer, StandardScaler(), LogisticRegression(max_iter=500)).fit(gaps, y)
    assert_same_answers(plan_of(fitted), fitted, gaps)


ENCODERS = {
    "ignore": OneHotEncoder(handle_unknown="ignore"),
    "drop": OneHotEncoder(handle_unknown="ignore", drop="first"),
    "drop if binary": OneHotEncoder(handle_unknown="ignore", drop="if_binary"),
    "infrequent": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=60),
    "dense": OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "ordinal": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1
    ),
    "target": TargetEncoder(),
    "imputed": make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    "imputed by a constant": make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"),
        OneHotEncoder(handle_unknown="ignore"),
    ),
}


def penguin_rows(signature):
    """Return rows with gaps and with categories that training had not."""
    values = signature.to_values(signature.to_rows(PENGUINS[signature.names].values.tolist()))
    for row in values[::5]:
        row[signature.names.index("island")] = "Atlantis"
    for row in values[::7]:
        row[signature.names.index("sex")] = None
    rows = signature.to_rows(values)
    missing = np.vectorize(lambda value: value != value)(rows)
    rows[missing] = None
    return rows


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
@pytest.mark.parametrize(
    "last", [LogisticRegression(max_iter=5000), RandomForestClassifier(5, random_state=0)]
)
def test_encoded_categories(encoder, last):
    """Known, rare, unseen and missing categories are encoded as by the encoder."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((numbers, MEASUREMENTS), (encoder, CATEGORIES))
    data = TrainingData(Dataset(PENGUINS[[*CATEGORIES, *MEASUREMENTS]], PENGUINS["species"]))
    fitted = make_pipeline(columns, last).fit(data.X, data.y)
    plan = plan_of(fitted, 6, data.signature)
    assert_same_answers(plan, fitted, data.rows, data.signature.to_input(data.rows))

    rows = penguin_rows(data.signature)
    rows = rows[:100]
    answer = plan.predict(rows)
    try:
        expected = fitted.predict(data.signature.to_input(rows))
    except ValueError:  # the encoder refuses what it has not seen, and the plan leaves it to it
        assert answer is None
    else:
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_categorical_types(library):
    """A categorical type has no room for an unseen category, which is missing then."""
    frame = PENGUINS[[*CATEGORIES, *MEASUREMENTS]].astype({"island": "category", "sex": "category"})
    if library == "polars":
        columns = {name: PENGUINS[name].to_numpy() for name in MEASUREMENTS}
        for name in CATEGORIES:
            known = PENGUINS[name].dropna().unique().tolist()
            values = PENGUINS[name].where(PENGUINS[name].notna(), None).tolist()
            columns[name] = pl.Series(values, dtype=pl.Enum(known), strict=False)
        frame = pl.DataFrame(columns)
    estimator = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    data = TrainingData(Dataset(frame, PENGUINS["species"].to_numpy()))
    fitted = estimator.fit(data.X, data.y)
    plan = plan_of(fitted, 6, data.signature)
    rows = penguin_rows(data.signature)
    assert_same_answers(plan, fitted, rows, data.signature.to_input(rows))


def test_columns_are_selected_by_type():
    """A ColumnTransformer that chose its columns by their type has the names of its choice."""
    columns = make_column_transformer(
        (SimpleImputer(), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    data = TrainingData(Dataset(PENGUINS[[*MEASUREMENTS, *CATEGORIES]], PENGUINS["species"]))
    fitted = make_pipeline(columns, LogisticRegression(max_iter=5000)).fit(data.X, data.y)
    plan = plan_of(fitted, 6, data.signature)
    assert_same_answers(plan, fitted, data.rows, data.signature.to_input(data.rows))


def test_booleans_and_integers():
    """Booleans and integers of a DataFrame are numbers."""
    frame = pd.DataFrame({"heavy": X[:, 2] > 3, "length": X[:, 0].round().astype(int)})
    data = TrainingData(Dataset(frame, y))
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.X, data.y)
    plan = plan_of(fitted, 2, data.signature)
    assert_same_answers(plan, fitted, data.rows, data.signature.to_input(data.rows))
