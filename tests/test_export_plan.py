"""The export of a plan file, and the service that serves it without scikit-learn."""

import json
import shutil
import subprocess
import sys

import pytest
from sklearn.neighbors import KNeighborsClassifier

from fitted_estimators import X, y
from fixture_models import model_file
from helpers import JSON, card_fields, environment
from serving.model.loading import load_model
from serving.model.storage import save_model

# What the edge image has not.
ABSENT = ("joblib", "pandas", "polars", "scipy", "sklearn")


@pytest.fixture
def without_libraries(tmp_path):
    """Return a directory for PYTHONPATH, with which the libraries cannot be imported."""
    directory = tmp_path / "absent"
    for name in ABSENT:
        (directory / name).mkdir(parents=True)
        (directory / name / "__init__.py").write_text("raise ImportError('absent', name=__name__)")
    return str(directory)


def export(path):
    return subprocess.run(
        [sys.executable, "-m", "serving.export_plan", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def copied_model(tmp_path):
    """Return a function that copies a model and its card, and returns the path."""

    def copy(name):
        source = model_file(name)
        for path in (source, source.with_suffix(".json")):
            shutil.copy(path, tmp_path)
        return tmp_path / source.name

    return copy


@pytest.mark.parametrize("name", ["iris", "penguins", "diabetes"])
def test_plan_file_is_served_without_scikit_learn(serve, copied_model, without_libraries, name):
    """The service answers each of its paths as that of the pickle, with the same version."""
    path = copied_model(name)
    result = export(path)
    plan_path = path.with_suffix(".plan")
    size = plan_path.stat().st_size
    message = f"{plan_path}: {size} bytes; serve it with MODEL_PATH={plan_path}\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, message, "")

    card = load_model(plan_path).card
    rows = [reference.features for reference in card.reference]
    requests = [
        ("GET", "/readyz"),
        ("GET", "/drift"),
        ("GET", "/openapi.json"),
        ("GET", f"/v2/models/{card.name}"),
        ("POST", "/predict", json.dumps({"features": rows}), JSON),
        ("POST", "/predict", json.dumps({"features": rows[0]}), JSON),
        ("POST", "/predict", json.dumps({"features": ["nothing"]}), JSON),
        ("GET", "/", None, {"Accept": "text/html"}),
    ]
    full = serve(MODEL_PATH=str(path))
    edge = serve(MODEL_PATH=str(plan_path), PYTHONPATH=without_libraries)
    for request in requests:
        expected = full.call(*request)
        answer = edge.call(*request)
        assert answer.status == expected.status
        version = answer.headers.get("X-Model-Version")
        assert version == expected.headers.get("X-Model-Version")
        if request[1] != "/":
            assert answer.body == expected.body


def test_model_without_plan_is_one_line(tmp_path):
    """A model without a plan is not exported, and the reason is the card's."""
    path = tmp_path / "model.pkl"
    estimator = KNeighborsClassifier().fit(X, y)
    save_model(path, estimator, **card_fields(estimator), reference=X[:3])
    result = export(path)
    assert result.returncode == 1
    assert result.stderr == "test has no prediction plan: KNeighborsClassifier has no plan\n"
    assert not path.with_suffix(".plan").exists()


def test_model_without_card_is_one_line(copied_model):
    """A pickle without a card is not exported."""
    path = copied_model("iris")
    path.with_suffix(".json").unlink()
    result = export(path)
    assert result.returncode == 1
    assert (
        result.stderr.splitlines()[-1] == f"{path}: it has no model card, and a plan file needs one"
    )
