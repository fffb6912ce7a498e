"""Thirty-eight models in MLflow: registered, pulled, and loaded by MLflow's own tools."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from documentation import table
from registries import read_files, register
from zoo import ZOO
from zoo_models import zoo_model

DOCUMENTED = {row[0]: row[-1] for row in table("your-model.md", "Models that were tried")}


def assert_same(actual, expected):
    """Assert that two arrays of predictions are equal, numbers up to rounding."""
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(actual, expected, rtol=1e-9)
    else:
        assert np.asarray(actual).tolist() == expected.tolist()


@pytest.mark.parametrize("name", ZOO)
def test_version_predicts_as_its_estimator(
    mlflow_server, monkeypatch, run_registry, tmp_path, name
):
    """A version has the same files, and both flavors of MLflow predict as the estimator."""
    model, path = zoo_model(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    registered_name = f"zoo {list(ZOO).index(name)}"
    assert register(mlflow_server.url, path, registered_name).startswith("registered ")

    uri = f"models:/{registered_name}/1"
    assert run_registry(tmp_path, "pull", uri)[0] == 0
    assert read_files(tmp_path) == read_files(path.parent)

    expected = np.asarray(model.estimator.predict(model.data.X))
    rows = model.data.X
    if model.data.input_kind == "texts":
        rows = pd.DataFrame({"text": rows})
    version = mlflow.artifacts.download_artifacts(uri)
    with threadpool_limits(1):
        assert_same(mlflow.pyfunc.load_model(version).predict(rows), expected)
        assert_same(mlflow.sklearn.load_model(version).predict(model.data.X), expected)
    assert DOCUMENTED[name] == "yes"
