"""Models in files, for the tests of the model package."""

import shutil

import pytest
from sklearn.datasets import load_iris

from helpers import MODEL_FILE, card_fields
from serving.model.loading import load_model
from serving.model.storage import save_model


@pytest.fixture
def save_and_load(tmp_path):
    """Return a function that saves a fitted estimator to model.pkl and loads it again."""

    def save_and_load(estimator):
        path = tmp_path / "model.pkl"
        reference = load_iris().data[::50]
        save_model(path, estimator, reference=reference, **card_fields(estimator))
        return load_model(path)

    return save_and_load


@pytest.fixture
def model_path(tmp_path):
    """Return the path of a copy of a model, with its card beside it."""
    for path in (MODEL_FILE, MODEL_FILE.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.pkl"
