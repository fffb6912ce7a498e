"""save_model: what is read back before a file is replaced, and what a refusal says."""

import operator
import posixpath
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from helpers import ROOT, card_fields
from pickles import operations
from serving.model import transformers
from serving.model.errors import ModelError
from serving.model.storage import save_model
from serving.model.unpickling import restricted_loads

X, y = load_iris(return_X_y=True)

OWN_FILE = "serving/model/transformers.py"


def read_directory(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def save(path, estimator):
    return save_model(path, estimator, reference=X[:2], **card_fields(estimator))


def with_function(function):
    """Return a fitted pipeline that keeps `function` without calling it."""
    step = FunctionTransformer(inverse_func=function, check_inverse=False)
    return make_pipeline(step, LogisticRegression(max_iter=500)).fit(X, y)


def double(rows):
    return rows * 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            posixpath.basename,
            "it imports posixpath.basename, which is not on the allow-list: "
            "serving/model/allow_list.py says what may be added",
        ),
        (
            double,
            f"it imports {__name__}.double, which is not on the allow-list: "
            f"define double in {OWN_FILE}, and import it from there",
        ),
        (
            "a b".split,
            "it imports builtins.getattr, which is not on the allow-list: "
            f"a method of an object cannot be saved; call it in a function in {OWN_FILE}",
        ),
        (
            operator.attrgetter("a"),
            "it imports operator.attrgetter, which is not on the allow-list: "
            "serving/model/allow_list.py says what may be added",
        ),
    ],
    ids=["standard library", "own module", "method", "getter"],
)
def test_save_refuses_what_load_refuses(model_path, function, message):
    """A refusal names what is missing and how to add it, and the old files stay."""
    contents = read_directory(model_path.parent)
    with pytest.raises(ModelError) as caught:
        save(model_path, with_function(function))
    assert str(caught.value) == message
    assert read_directory(model_path.parent) == contents


def test_save_refuses_lambda(model_path):
    """A lambda is refused with the advice to name it in the module for own transformers."""
    contents = read_directory(model_path.parent)
    message = f"cannot be pickled: .*lambda.* must be a named function in {OWN_FILE}"
    with pytest.raises(ModelError, match=message):
        save(model_path, with_function(lambda rows: rows))
    assert read_directory(model_path.parent) == contents


PROGRAM = """
import sys
from pathlib import Path

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

sys.path.insert(0, "tests")
from helpers import card_fields
from serving.model.errors import ModelError
from serving.model.storage import save_model
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def double(rows):
    return rows * 2


X, y = load_iris(return_X_y=True)
fitted = make_pipeline(FunctionTransformer(double), LogisticRegression(max_iter=500)).fit(X, y)
try:
    save_model(Path(sys.argv[1]), fitted, reference=X[:2], **card_fields(fitted))
except ModelError as error:
    print(error)
"""


def test_save_refuses_function_of_program(model_path):
    """A function in the program that trains, such as train.py, is refused with advice."""
    contents = read_directory(model_path.parent)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, model_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == (
        "it imports __main__.double, which is not on the allow-list: "
        f"define double in {OWN_FILE}, and import it from there\n"
    )
    assert read_directory(model_path.parent) == contents


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        (b"pandas.core.indexes.base\n_new_Index", "such as `list(X.columns)`"),
        (b"joblib.memory\nMemory", "set it to None after fitting, `set_params(memory=None)`"),
    ],
    ids=["index", "memory"],
)
def test_refusal_has_a_remedy(name, remedy):
    """An index of pandas and a memory, which people give to estimators, are refused with advice."""
    with pytest.raises(ModelError, match=f"which is not on the allow-list: .*{re.escape(remedy)}$"):
        restricted_loads(operations(b"c" + name + b"\n"))


class Forgetful(LinearRegression):
    """Loses its coefficients when it is pickled."""

    __module__ = "serving.model.transformers"

    def __getstate__(self):
        return super().__getstate__() | {"coef_": np.zeros(4)}


def test_save_compares_what_it_reads_back(model_path, monkeypatch):
    """An estimator that predicts something else after it was pickled is not saved."""
    monkeypatch.setattr(transformers, "Forgetful", Forgetful, raising=False)
    contents = read_directory(model_path.parent)
    with pytest.raises(ModelError, match="the predictions differ from the reference rows"):
        save(model_path, Forgetful().fit(X, y))
    assert read_directory(model_path.parent) == contents
