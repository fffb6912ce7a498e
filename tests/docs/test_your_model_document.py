"""docs/your-model.md: its tables and messages are those of the program."""

import json
import re
from typing import get_args

import msgspec
import numpy as np
import pytest
import scipy.stats
import sklearn
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from documentation import DOCUMENTS, table
from helpers import ROOT
from pickles import joblib_bytes, operations
from serving.api.values import value_type
from serving.model.allow_list import OTHER_LIBRARIES
from serving.model.card import FeatureInfo, FeatureType
from serving.model.errors import ModelError
from serving.model.libraries import check_libraries
from serving.model.unpickling import restricted_loads
from serving.training.features import MAX_CATEGORIES

LIBRARIES = table("your-model.md", "Estimators of other libraries")

REFUSED = {
    "A lambda": operations(b"c__main__\ndouble\n"),
    "A method": joblib_bytes(FunctionTransformer(re.compile("[a-z]+").findall)),
    "An index": operations(b"cpandas.core.indexes.base\n_new_Index\n"),
    "`numpy.vec": operations(b"cnumpy\napply_along_axis\n"),
    "A `Pipeline`": joblib_bytes(Pipeline([("a", LogisticRegression())], memory="cache")),
    "A distribution": joblib_bytes(scipy.stats.rv_histogram(np.histogram([0, 1, 1]))),
    "A vectorizer": joblib_bytes(make_pipeline(CountVectorizer(input="filename"))),
}


@pytest.mark.parametrize("row", LIBRARIES, ids=lambda row: row[0])
def test_listed_estimators_are_on_the_allow_list(row):
    """The estimator of each library in the table is on the allow-list, with its regressor."""
    *_, estimator = row
    [name] = re.findall(r"`(\w+)\(", estimator)
    allowed = set().union(*OTHER_LIBRARIES.values())
    assert {name, name.replace("Classifier", "Regressor")} <= allowed


def test_system_packages_are_an_argument():
    """The Dockerfile has the argument that the table fills in."""
    assert "`ARG SYSTEM_PACKAGES`" in DOCUMENTS["your-model.md"]
    assert "\nARG SYSTEM_PACKAGES=" in (ROOT / "Dockerfile").read_text()


def test_missing_library_is_reported_as_documented():
    """The line about a missing library is the program's."""
    versions = {"scikit-learn": sklearn.__version__, "no-such-library": "4.7.0"}
    with pytest.raises(ModelError) as caught:
        check_libraries(versions)
    line = str(caught.value).replace("no-such-library", "lightgbm")
    assert f"```text\nmodel.pkl: {line}\n```" in DOCUMENTS["your-model.md"]


def test_every_refusal_is_refused():
    """Each row of the table of refusals has a pickle, which is refused."""
    rows = [what for what, _ in table("your-model.md", "What a pickle may contain")]
    assert len(rows) == len(REFUSED)
    for what, start in zip(rows, REFUSED, strict=True):
        assert what.startswith(start)
        with pytest.raises(ModelError):
            restricted_loads(REFUSED[start])


def test_every_example_is_listed():
    """The table of examples has each folder of examples/."""
    listed = [re.match(r"\[(\w+)\]", row[0])[1] for row in table("your-model.md", "Examples")]
    folders = [path.parent.name for path in (ROOT / "examples").glob("*/train.py")]
    assert sorted(listed) == sorted(folders)


@pytest.mark.parametrize("document", ["your-model.md", "api.md"])
def test_every_type_is_listed(document):
    """The tables of types have each type of a feature."""
    heading = {"your-model.md": "Data", "api.md": "Predictions"}[document]
    listed = re.findall("`(\\w+)`", " ".join(row[0] for row in table(document, heading)))
    assert sorted(listed) == sorted(get_args(FeatureType))


def test_category_limit_is_documented():
    """The number of strings up to which a column is a category is that of the program."""
    text = DOCUMENTS["your-model.md"]
    assert f"at most {MAX_CATEGORIES} different strings" in text
    assert f"more than {MAX_CATEGORIES} different strings" in text


VALUES = {  # the column of JSON and of CSV in the table of docs/api.md
    "number": ([5.1], ["5.1"]),
    "integer": ([3, 3.0], ["3"]),
    "boolean": ([True], ["true", "True", "1"]),
    "category": (["male"], ["male"]),
}


@pytest.mark.parametrize("row", table("api.md", "Predictions"), ids=lambda row: row[0])
def test_documented_values_are_accepted(row):
    """Each value in the table is what the decoder of its type accepts, from JSON and CSV."""
    name = re.match("`(\\w+)`", row[0])[1]
    json_type = value_type(FeatureInfo(name="x", type=name, categories=["male"]))
    in_json, in_csv = VALUES[name]
    assert [json.loads(text) for text in re.findall("`([^`]+)`", row[1])] == in_json
    assert re.findall("`([^`]+)`", row[2]) == in_csv
    for value in in_json:
        msgspec.convert(value, json_type)
    for text in in_csv:
        msgspec.convert(text, json_type, strict=False)
