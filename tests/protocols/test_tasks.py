"""Models of other tasks and inputs get the same predictions on every way in."""

import hashlib
import json

import joblib
import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from sklearn.datasets import load_diabetes, load_linnerud

from app import create_app
from fixture_models import TEXTS, model_file
from helpers import JSON, in_process

INPUTS = {
    "diabetes": load_diabetes().data.tolist(),
    "languages": [[text] for text in [*TEXTS["de"], *TEXTS["en"], "Wörter, ganz neue"]],
    "linnerud": load_linnerud().data.tolist(),
}


def expected_predictions(name):
    estimator = joblib.load(model_file(name))
    rows = INPUTS[name]
    if name == "languages":
        rows = [text for [text] in rows]
    return np.asarray(estimator.predict(rows)).tolist()


def model_version(name):
    return hashlib.sha256(model_file(name).read_bytes()).hexdigest()[:12]


def tensor_of(name):
    rows = INPUTS[name]
    datatype = "BYTES" if name == "languages" else "FP64"
    return {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": rows}


def requests_of(name):
    """Return path and payload of each way to ask for predictions."""
    rows = INPUTS[name]
    return {
        "own API": ("/predict", {"features": rows}),
        "KServe V1": (f"/v1/models/{name}:predict", {"instances": rows}),
        "Open Inference V2": (f"/v2/models/{name}/infer", {"inputs": [tensor_of(name)]}),
        "SageMaker": ("/invocations", rows),
        "MLflow": ("/invocations", {"dataframe_split": {"data": rows}}),
        "Azure ML": ("/score", {"data": rows}),
    }


def read_predictions(payload):
    if isinstance(payload, list):
        return payload
    if "outputs" in payload:
        tensor = payload["outputs"][0]
        return np.reshape(tensor["data"], tensor["shape"]).tolist()
    return payload.get("prediction", payload.get("predictions"))


@pytest.fixture(scope="module", params=INPUTS)
def served(request):
    """Return the name of a model, and a function that posts to its service."""
    app = create_app(MODEL_PATH=str(model_file(request.param)))

    def post(path, payload):
        return in_process(app, "POST", path, msgspec.json.encode(payload), JSON)

    return request.param, post


@pytest.mark.parametrize("way", requests_of("diabetes"))
def test_predictions_match_estimator(served, way):
    """Regressor, text classifier and multi-output model answer as the estimator does."""
    name, post = served
    path, payload = requests_of(name)[way]
    response = post(path, payload)
    assert response.status == 200, response.body
    actual = read_predictions(response.json)
    if name == "languages":
        assert actual == expected_predictions(name)
    else:
        np.testing.assert_allclose(actual, expected_predictions(name), rtol=1e-12)


def test_metadata_and_document_describe_the_model(served):
    """Metadata, index, drift and the OpenAPI document are there for any model."""
    name, _ = served
    app = create_app(MODEL_PATH=str(model_file(name)))
    for path in ("/", "/drift", "/metrics", "/openapi.json", f"/v2/models/{name}", "/readyz"):
        assert in_process(app, "GET", path).status == 200, path


@pytest.mark.parametrize("name", [*INPUTS, "iris", "penguins"])
def test_documented_examples_are_answered(name):
    """Each example of the OpenAPI document is valid by its schema and is answered."""
    app = create_app(MODEL_PATH=str(model_file(name)))
    document = in_process(app, "GET", "/openapi.json").json
    names = {"model": name, "version": model_version(name), "endpoint": 1, "deployed_model": 2}

    answered = 0
    for path, item in document["paths"].items():
        request_body = item.get("post", {}).get("requestBody")
        if request_body is None or path == "/feedback":
            continue

        for mimetype, content in request_body["content"].items():
            body = content["example"]
            schema = {"components": document["components"]} | content["schema"]
            Draft202012Validator(schema).validate(body)
            if not isinstance(body, str):
                body = json.dumps(body)
            headers = {"Content-Type": mimetype}
            response = in_process(app, "POST", path.format(**names), body, headers)
            assert response.status == 200, (path, mimetype, response.body)
            answered += 1
    assert answered == 10
