"""Versions of every task: compared by the metric of the task, and listed with it."""

import msgspec
import pytest
from sklearn.cluster import Birch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import Ridge

from fixture_models import model_file
from helpers import card_fields
from registries import digest, register
from serving.model.loading import load_model
from serving.model.storage import save_model
from serving.registry.metrics import MAIN_METRICS
from serving.registry.promotion import refusal_reason
from serving.training.dataset import Dataset
from serving.training.evaluation import MAIN_METRICS as METRICS_BY_TASK
from serving.training.training import train_model, write_model


@pytest.fixture
def server(mlflow_server):
    return {"MLFLOW_TRACKING_URI": mlflow_server.url}


def write(path, dataset, estimator):
    """Train `estimator`, write it to `path`, and return the path."""
    write_model(path, train_model("m", dataset, lambda: estimator))
    return path


def format_r2(path):
    """Return the R2 in the card of the model in `path`."""
    r2 = load_model(path).card.metrics["held_out"]["r2"]
    return f"{r2:.4f}"


def promote(name, version):
    return ("promote", f"models:/{name}/{version}", "--alias", "champion")


def test_metrics_are_those_of_training():
    """The registry compares by the metrics that decide in training."""
    assert list(MAIN_METRICS) == list(METRICS_BY_TASK.values())


def test_regressors_are_compared_by_r2(
    mlflow_server, server, tmp_path, run_registry, assert_refused
):
    """An identical regressor is promoted, and a worse one is refused."""
    same = model_file("diabetes")
    worse = write(tmp_path / "model.pkl", Dataset.from_sklearn(load_diabetes()), Ridge(alpha=1000))
    for path in (same, same, worse):
        register(mlflow_server.url, path, "diabetes")
    for version in (1, 2):
        assert run_registry(tmp_path, *promote("diabetes", version), **server)[0] == 0

    r2 = format_r2(same)
    worse_r2 = format_r2(worse)
    message = f"refused: held-out R2 {worse_r2} is below {r2} of the current version"
    assert_refused(tmp_path, *promote("diabetes", 3), contains=message, **server)

    _, output, _ = run_registry(tmp_path, "list", "diabetes", **server)
    heads, *rows = [line.split() for line in output.splitlines()]
    assert heads == ["version", "digest", "metric", "held", "out", "folds", "aliases"]
    versions = [digest(worse)[:12], digest(same)[:12], digest(same)[:12]]
    assert [row[:4] for row in rows] == [
        ["3", versions[0], "R2", worse_r2],
        ["2", versions[1], "R2", r2],
        ["1", versions[2], "R2", r2],
    ]
    assert rows[1][5:] == ["champion"]


def test_difference_within_rounding_is_none():
    """The same training on another processor is not worse; a real difference is."""
    card = load_model(model_file("diabetes")).card
    r2 = card.metrics["held_out"]["r2"]
    for difference, is_refused in ((1e-12, False), (1e-4, True)):
        metrics = {"held_out": {"r2": r2 - difference}}
        other = msgspec.structs.replace(card, metrics=metrics)
        assert bool(refusal_reason(other, card)) == is_refused
        assert refusal_reason(card, other) is None


def test_outlier_detector_is_promoted_by_force(
    mlflow_server, server, tmp_path, run_registry, assert_refused
):
    """A model without metrics is registered and listed, and replaces another by force only."""
    dataset = Dataset(load_iris().data)
    path = write(tmp_path / "model.pkl", dataset, IsolationForest(n_estimators=5, random_state=0))
    for _ in range(2):
        register(mlflow_server.url, path, "outliers")
    assert run_registry(tmp_path, *promote("outliers", 1), **server)[0] == 0

    reason = "one of the two versions has no held-out accuracy or R2"
    assert_refused(tmp_path, *promote("outliers", 2), contains=f"refused: {reason}; ", **server)
    status, _, errors = run_registry(tmp_path, *promote("outliers", 2), "--force", **server)
    assert (status, errors) == (0, f"FORCED: {reason}\n")

    _, output, _ = run_registry(tmp_path, "list", "outliers", **server)
    version = digest(path)[:12]
    rows = [line.split() for line in output.splitlines()[1:]]
    assert rows == [["2", version, "-", "-", "-", "champion"], ["1", version, "-", "-", "-"]]


def test_model_of_another_task_is_refused(
    mlflow_server, server, tmp_path, run_registry, assert_refused
):
    """A regressor does not replace a classifier: they have no metric in common."""
    for name in ("iris", "diabetes"):
        register(mlflow_server.url, model_file(name), "tasks")
    assert run_registry(tmp_path, *promote("tasks", 1), **server)[0] == 0
    message = "refused: the current version has no held-out R2; "
    assert_refused(tmp_path, *promote("tasks", 2), contains=message, **server)


def test_estimator_that_skops_lacks_has_one_flavor(mlflow_server, server, tmp_path, run_registry):
    """A version of what skops cannot store says why, and is loaded by pyfunc and pulled."""
    X = load_iris().data
    path = tmp_path / "model.pkl"
    estimator = Birch().fit(X)
    save_model(path, estimator, reference=X[::50], **card_fields(estimator))
    _, output, errors = run_registry(tmp_path, "register", "clusters", **server)

    assert output.endswith(" as version 1 of clusters\n")
    reason = "UnsupportedTypeException: Objects of type Birch are not supported yet."
    assert f"without MLflow's flavor sklearn, which skops stores: {reason}\n" in errors
