"""Drift of the predicted classes: against what the estimator predicts, not what is true."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from helpers import predict
from trained_models import caller, train_app

N_TRAINING_ROWS = 2000
N_ROWS = 2000


def draw(seed, shift=0.0):
    """Return rows of a rare class that is hard to tell from the other, and their classes."""
    rng = np.random.default_rng(seed)
    y = (rng.uniform(size=N_ROWS) < 0.15).astype(int)
    X = rng.normal(size=(N_ROWS, 2)) + 0.8 * y[:, None] + shift
    return X, y


@pytest.fixture(scope="module")
def call_of(tmp_path_factory):
    """Return a function that returns a service, of the model of a seed, that had no row."""

    def call_of(seed):
        directory = tmp_path_factory.mktemp("rare")
        return caller(train_app(directory, *draw(seed), LogisticRegression))

    return call_of


def verdict_on_classes(call, rows):
    assert predict(call, features=rows.tolist()).status == 200
    return call("GET", "/drift").json["classes"]["verdict"]


@pytest.mark.parametrize("seed", range(5))
def test_rare_class_is_no_drift(call_of, seed):
    """A rare class is seldom predicted, which is so without any drift."""
    assert verdict_on_classes(call_of(seed), draw(seed + 100)[0]) == "quiet"


def test_more_of_a_rare_class_is_drift(call_of):
    """Rows that are predicted to be of the rare class more often are reported."""
    assert verdict_on_classes(call_of(0), draw(100, shift=0.8)[0]) == "drifting"
