"""Thirty-eight models: each answers on every way in as its estimator does."""

import msgspec
import numpy as np
import pytest

from app import create_app
from helpers import JSON, in_process
from zoo import ZOO
from zoo_models import zoo_model

N_ROWS = 3


@pytest.fixture(params=ZOO)
def trained(request):
    """Return a trained model, and the path of its file."""
    return zoo_model(request.param)


def tensors_of(model, rows):
    """Return a tensor for each feature."""
    datatypes = {"boolean": "BOOL", "category": "BYTES", "text": "BYTES"}
    return [
        {
            "name": feature.name,
            "shape": [len(rows)],
            "datatype": datatypes.get(feature.type, "FP64"),
            "data": [row[index] for row in rows],
        }
        for index, feature in enumerate(model.data.features)
    ]


def requests_of(model, rows):
    """Return path and payload of each way to ask for predictions."""
    names = [feature.name for feature in model.data.features]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    return {
        "own API": ("/predict", {"features": rows}),
        "own API, by name": ("/predict", {"features": records}),
        "KServe V1": ("/v1/models/zoo:predict", {"instances": records}),
        "Open Inference V2": ("/v2/models/zoo/infer", {"inputs": tensors_of(model, rows)}),
        "SageMaker": ("/invocations", rows),
        "MLflow": ("/invocations", {"dataframe_split": {"columns": names, "data": rows}}),
        "Azure ML": ("/score", {"data": rows}),
    }


def read_predictions(payload):
    if isinstance(payload, list):
        return payload
    if "outputs" in payload:
        tensor = payload["outputs"][0]
        return np.array(tensor["data"]).reshape(tensor["shape"]).tolist()
    return payload.get("prediction", payload.get("predictions"))


def test_model_answers_on_every_way(trained):
    """Each platform's request gets the predictions of the estimator for the training data."""
    model, path = trained
    app = create_app(MODEL_PATH=str(path))
    rows = model.data.signature.to_values(model.data.rows[:N_ROWS])
    expected = np.asarray(model.estimator.predict(model.data.X))[:N_ROWS].tolist()

    for way, (route, payload) in requests_of(model, rows).items():
        response = in_process(app, "POST", route, msgspec.json.encode(payload), JSON)
        assert response.status == 200, (way, response.body)
        actual = read_predictions(response.json)
        if isinstance(expected[0], str):
            assert actual == expected, way
        else:
            np.testing.assert_allclose(actual, expected, rtol=1e-6, err_msg=way)
