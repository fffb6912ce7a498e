"""Each example trains, and the service answers for its model as for the shipped one."""

import importlib.util
import os
import subprocess
import sys

import msgspec
import pytest

from app import create_app
from helpers import JSON, ROOT, in_process
from serving.model.loading import load_model

NAMES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/train.py"))
OTHER_LIBRARIES = {"breast_cancer": "xgboost"}


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory):
    """Return the path of the model that an example wrote."""
    library = OTHER_LIBRARIES.get(request.param, "sklearn")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} has no package for this platform")

    path = tmp_path_factory.mktemp(request.param) / "model.pkl"
    # As an owner runs it: a script, with the repository on the path.
    script = ROOT / "examples" / request.param / "train.py"
    result = subprocess.run(
        [sys.executable, script, "--output", path],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return path


def test_example_is_served(trained):
    """The service answers for the reference rows as training has recorded."""
    card = load_model(trained).card
    app = create_app(MODEL_PATH=str(trained))
    rows = [reference.features for reference in card.reference]

    body = msgspec.json.encode({"features": rows})
    response = in_process(app, "POST", "/predict", body, JSON)
    assert response.status == 200, response.body
    expected = [reference.prediction for reference in card.reference]
    assert response.json["prediction"] == pytest.approx(expected)


def test_example_has_everything_that_iris_has(trained):
    """Readiness, drift, metrics and the document are there."""
    app = create_app(MODEL_PATH=str(trained))
    for path in ("/readyz", "/drift", "/metrics", "/openapi.json", "/"):
        assert in_process(app, "GET", path).status == 200

    features = in_process(app, "GET", "/drift").json["features"]
    assert [feature["name"] for feature in features] == in_process(app, "GET", "/").json["model"][
        "features"
    ]
