"""Random signatures and rows: what is accepted is what the estimator is given, never a 500."""

import json

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from app import create_app
from fixture_models import model_file
from helpers import JSON, in_process
from serving.api.rows import RowDecoder
from serving.model.card import FeatureInfo, ModelCard
from serving.model.errors import InvalidInput
from serving.model.estimator_model import EstimatorModel

DTYPES = {
    "pandas": {
        "number": ["float64", "Float64"],
        "integer": ["int64", "Int64"],
        "boolean": ["bool", "boolean"],
        "category": ["object", "str", "category"],
        "text": ["object", "str"],
    },
    "polars": {
        "number": ["Float64"],
        "integer": ["Int64"],
        "boolean": ["Boolean"],
        "category": ["String", "Enum"],
        "text": ["String"],
    },
}
NO_ROOM_FOR_MISSING = {"int64": "Int64", "bool": "boolean"}
CATEGORIES = ["a", "b", "ü"]

VALUES = {
    "number": st.floats(-1e30, 1e30),
    "integer": st.integers(-(2**53), 2**53),
    "boolean": st.booleans(),
    "category": st.sampled_from(CATEGORIES),
    "text": st.text(max_size=5),
}


@st.composite
def features(draw, library):
    """Return one to five features with types of columns of `library`."""
    drawn = []
    for index in range(draw(st.integers(1, 5))):
        feature_type = draw(st.sampled_from(list(VALUES)))
        nullable = draw(st.booleans())
        dtype = draw(st.sampled_from(DTYPES[library][feature_type]))
        if nullable:
            dtype = NO_ROOM_FOR_MISSING.get(dtype, dtype)
        drawn.append(
            FeatureInfo(
                name=f"x {index}",
                type=feature_type,
                nullable=nullable,
                dtype=dtype,
                categories=CATEGORIES if feature_type == "category" else [],
            )
        )
    return drawn


def valid_value(feature):
    value = VALUES[feature.type]
    if feature.nullable:
        return st.none() | value
    return value


def decoder_of(drawn, library):
    card = ModelCard(
        name="m",
        sha256="",
        estimator="",
        libraries={},
        features=drawn,
        classes=[],
        rows=1,
        metrics={},
        data={},
        reference=[],
        input=library,
    )
    estimator = DummyClassifier()
    estimator.n_features_in_ = len(drawn)
    return RowDecoder(EstimatorModel(estimator, "", card))


def values_of(frame):
    """Return the rows of a DataFrame as Python values, with None for a missing one."""
    if isinstance(frame, pl.DataFrame):
        return [list(row) for row in frame.iter_rows()]
    rows = frame.astype(object).to_numpy()
    return [[None if pd.isna(value) else value for value in row] for row in rows]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_estimator_gets_what_was_sent(library, data):
    """Valid rows, as arrays and as objects, arrive in the DataFrame as they were sent."""
    drawn = data.draw(features(library))
    rows = data.draw(st.lists(st.tuples(*map(valid_value, drawn)), min_size=1, max_size=4))
    decoder = decoder_of(drawn, library)
    named = [dict(zip([feature.name for feature in drawn], row, strict=True)) for row in rows]

    for sent in (rows, named):
        decoded = msgspec.json.decode(msgspec.json.encode(sent), type=decoder.row_list)
        array = decoder.to_array(decoded, "$")
        frame = decoder.signature.to_input(array)
        assert list(frame.columns) == decoder.features
        assert values_of(frame) == [list(row) for row in rows]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_other_values_are_refused_with_a_place(library, data):
    """Rows of any JSON are accepted as values of their features, or refused with a place."""
    drawn = data.draw(features(library))
    decoder = decoder_of(drawn, library)
    row = st.tuples(*[valid_value(feature) | anything for feature in drawn])
    sent = json.dumps(data.draw(st.lists(row, min_size=1, max_size=3)))
    try:
        decoded = msgspec.json.decode(sent, type=decoder.row_list)
        array = decoder.to_array(decoded, "$")
    except msgspec.MsgspecError:
        return
    except InvalidInput as error:
        assert "- at `$" in str(error)
        return

    for values in decoder.signature.to_values(array):
        for feature, value in zip(drawn, values, strict=True):
            assert value is not None or feature.nullable
    decoder.signature.to_input(array)


APP = create_app(MODEL_PATH=str(model_file("penguins")))
PATHS = {
    "/predict": "features",
    "/v1/models/penguins:predict": "instances",
    "/invocations": "dataframe_records",
    "/score": "data",
}


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(list(PATHS)), rows=st.lists(st.lists(anything, max_size=6), max_size=3))
def test_no_rows_are_an_error_of_the_service(path, rows):
    """Whatever the rows are, the status is 200 or 4xx."""
    body = json.dumps({PATHS[path]: rows})
    status = in_process(APP, "POST", path, body, JSON).status
    assert status == 200 or 400 <= status < 500


def test_rows_of_numbers_are_an_array():
    """A model of numbers gets float64, with NaN for a missing value."""
    drawn = [FeatureInfo(name="a", nullable=True), FeatureInfo(name="b", type="integer")]
    decoder = decoder_of(drawn, "array")
    array = decoder.to_array([[None, 3.0], [1.5, -2.0]], "$")
    np.testing.assert_array_equal(decoder.signature.to_input(array), [[np.nan, 3], [1.5, -2]])
    assert array.dtype == np.float64
