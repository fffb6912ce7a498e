"""The libraries of a model: recorded in its card, compared when it is loaded."""

import os
import shutil
import subprocess
import sys

import msgspec
import pytest
import scipy
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from helpers import ROOT, card_fields
from pickles import operations
from serving.model import allow_list
from serving.model.errors import ModelError
from serving.model.loading import load_model
from serving.model.storage import save_model
from serving.model.unpickling import restricted_loads

X, y = load_iris(return_X_y=True)

BASE_LIBRARIES = {"python", "scikit-learn", "numpy", "joblib"}
ADVICE = "add it to the dependency group `model` in pyproject.toml and run `make lock`"

LIBRARY = """
from sklearn.linear_model import LinearRegression, RidgeClassifier


class Model(LinearRegression):
    pass


class Column(RidgeClassifier):
    def predict(self, X):
        scores = X @ self.coef_.T + self.intercept_
        return self.classes_[scores.argmax(axis=1)].reshape(-1, 1)

    def __setstate__(self, state):
        super().__setstate__(state | {"n_features_in_": 0})
"""


def save(path, estimator):
    return save_model(path, estimator, reference=X[:2], **card_fields(estimator))


def edit_libraries(model_path, **versions):
    path = model_path.with_suffix(".json")
    card = msgspec.json.decode(path.read_bytes())
    card["libraries"].update(versions)
    path.write_bytes(msgspec.json.encode(card))


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Return the folder of an installed library whose estimator is on the allow-list."""
    folder = tmp_path / "site"
    (folder / "boosting").mkdir(parents=True)
    (folder / "boosting/__init__.py").write_text(LIBRARY)
    (folder / "boosting_lib-1.2.dist-info").mkdir()
    (folder / "boosting_lib-1.2.dist-info/METADATA").write_text("Name: boosting-lib\nVersion: 1.2")
    (folder / "boosting_lib-1.2.dist-info/top_level.txt").write_text("boosting\n")

    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(allow_list.OTHER_LIBRARIES, "boosting", frozenset({"Model", "Column"}))
    yield folder
    sys.modules.pop("boosting", None)


def test_card_has_base_libraries(tmp_path):
    """A linear model needs scikit-learn, numpy and joblib, and no other library."""
    assert save(tmp_path / "model.pkl", Ridge().fit(X, y)).libraries.keys() == BASE_LIBRARIES


def test_card_has_every_imported_library(tmp_path):
    """A library that the pickle imports is in the card with its version."""
    path = tmp_path / "model.pkl"
    card = save(path, make_pipeline(SplineTransformer(), Ridge()).fit(X, y))
    assert card.libraries.keys() == BASE_LIBRARIES | {"scipy"}
    assert card.libraries["scipy"] == scipy.__version__

    edit_libraries(path, scipy="1.0")
    message = f"trained with scipy 1.0, {scipy.__version__} is installed; retrain or install 1.0"
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_other_numpy_is_accepted(model_path):
    """Another Python, numpy or joblib reads the pickle; the self-test compares predictions."""
    edit_libraries(model_path, python="3.0", numpy="1.0", joblib="1.0")
    assert load_model(model_path).card.libraries["numpy"] == "1.0"


def test_estimator_of_another_library(tmp_path, library):
    """An estimator of another library is served by the version that trained it only."""
    from boosting import Model

    path = tmp_path / "model.pkl"
    card = save(path, Model().fit(X, y))
    assert card.libraries.keys() == BASE_LIBRARIES | {"boosting-lib"}
    assert card.libraries["boosting-lib"] == "1.2"
    assert type(load_model(path).estimator) is Model

    edit_libraries(path, **{"boosting-lib": "1.1"})
    with pytest.raises(ModelError, match=r"trained with boosting-lib 1\.1, 1\.2 is installed"):
        load_model(path)

    shutil.rmtree(library / "boosting_lib-1.2.dist-info")
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = f"needs boosting-lib 1.1, which is not installed: {ADVICE}"
    assert str(caught.value) == f"{path}: {message}"


def test_column_of_classes_is_a_prediction(tmp_path, library):
    """A classifier that predicts a column, and forgets its features, is served: CatBoost's does."""
    from boosting import Column

    path = tmp_path / "model.pkl"
    save(path, Column().fit(X, y))
    model = load_model(path)
    assert model.estimator.n_features_in_ == 0
    assert model.predict(X).tolist() == Column().fit(X, y).predict(X)[:, 0].tolist()


def test_threads_of_libraries_do_not_outlive_the_fork():
    """gunicorn.conf.py limits OpenMP, because a worker of LightGBM with threads would hang."""
    program = "import os, runpy; runpy.run_path('gunicorn.conf.py'); print(dict(os.environ))"
    environ = {"PATH": os.environ["PATH"]}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'OMP_THREAD_LIMIT': '1'" in result.stdout


def test_missing_library_without_card(tmp_path, monkeypatch):
    """Without a card a missing library is named after its module."""
    monkeypatch.setitem(allow_list.OTHER_LIBRARIES, "missing.core", frozenset({"Model"}))
    path = tmp_path / "model.pkl"
    path.write_bytes(operations(b"cmissing.core\nModel\n"))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == f"{path}: needs missing, which is not installed: {ADVICE}"


def test_library_that_cannot_be_imported(library):
    """A library without its system library is refused in one line that has the reason."""
    reason = "libgomp.so.1: cannot open shared object file"
    (library / "boosting/__init__.py").write_text(f"raise OSError({reason!r})")
    message = f"^boosting cannot be imported: OSError: {reason}$"
    with pytest.raises(ModelError, match=message):
        restricted_loads(operations(b"cboosting\nModel\n"))


@pytest.mark.parametrize("name", ["Other", "LinearRegression"])
def test_other_names_of_the_library_are_refused(library, name):
    """A class that is not listed, or that the library only imports, is refused."""
    with pytest.raises(ModelError, match=f"it imports boosting.{name}, which is not on the"):
        restricted_loads(operations(b"cboosting\n" + name.encode() + b"\n"))
