"""Thirty-eight models in a batch: each predicts as its estimator, or is refused with the reason."""

import re

import numpy as np
import pytest

from documentation import table
from serving.batch.scoring import Scorer
from serving.model.errors import ModelError
from serving.model.storage import load_model
from zoo import ZOO
from zoo_models import zoo_model

DOCUMENTED = {row[0]: row[3] for row in table("your-model.md", "Models that were tried")}

REASONS = "missing values|categories|integers|booleans|texts|several outputs"


def build_scorer(path):
    return Scorer(load_model(path), "fail", proba=False, keep=None)


@pytest.mark.parametrize("name", ZOO)
def test_model_is_scored_or_refused(name):
    """A batch has the predictions of the estimator, or one line says what it does not take."""
    model, path = zoo_model(name)
    if DOCUMENTED[name] != "yes":
        with pytest.raises(ModelError) as caught:
            build_scorer(path)
        _, reason = str(caught.value).split("; this model ")
        assert ", ".join(re.findall(REASONS, reason)) == DOCUMENTED[name]
        return

    scored = build_scorer(path).score(model.data.rows, {})
    expected = np.asarray(model.estimator.predict(model.data.X))
    actual = np.array(scored.columns["prediction"].to_pylist())
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(actual, expected, rtol=1e-9)
    else:
        assert actual.tolist() == expected.tolist()
