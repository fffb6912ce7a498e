"""Every estimator of scikit-learn behind the service, with a model card and without one."""

import warnings

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from app import create_app
from fitted_estimators import ESTIMATORS, X, fitted_estimator, y
from helpers import JSON, card_fields, in_process
from serving.model.errors import ModelError
from serving.model.storage import save_model

ROWS = X[::40]
TWO_LABELS = np.c_[y > 0, y > 1].astype(int)
TENSOR = {"name": "x", "shape": list(ROWS.shape), "datatype": "FP64", "data": ROWS.tolist()}

# The types of JSON that a datatype stands for.
JSON_TYPES = {"BOOL": {bool}, "INT64": {int}, "FP64": {float}, "BYTES": {str}}

# No row that a model without a card is tried with has neighbors in the radius.
REFUSED_WITHOUT_CARD = {"RadiusNeighborsClassifier"}


def write_with_card(path, estimator):
    save_model(path, estimator, reference=X[::50], **card_fields(estimator))
    return "test"


def write_without_card(path, estimator):
    joblib.dump(estimator, path)
    return "model"


def describe(tensor):
    return tensor["name"], tensor["datatype"], tensor["shape"][1:]


@pytest.mark.parametrize(
    "write", [write_with_card, write_without_card], ids=["card", "without card"]
)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_metadata_describe_the_answer(tmp_path, name, write):
    """The tensors of an answer have the names, datatypes and shapes of the metadata."""
    estimator = fitted_estimator(name)
    path = tmp_path / "model.pkl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some estimators warn about this data
        model = write(path, estimator)
        if name in REFUSED_WITHOUT_CARD and write is write_without_card:
            with pytest.raises(ModelError, match="cannot score one"):
                create_app(MODEL_PATH=str(path))
            return

        app = create_app(MODEL_PATH=str(path))
        metadata = in_process(app, "GET", f"/v2/models/{model}").json
        body = msgspec.json.encode({"inputs": [TENSOR]})
        response = in_process(app, "POST", f"/v2/models/{model}/infer", body, JSON)
        expected = np.asarray(estimator.predict(ROWS))

    assert response.status == 200, response.body
    outputs = response.json["outputs"]
    assert list(map(describe, outputs)) == list(map(describe, metadata["outputs"]))
    for output in outputs:
        assert set(map(type, output["data"])) <= JSON_TYPES[output["datatype"]]

    predicted = np.reshape(outputs[0]["data"], outputs[0]["shape"])
    np.testing.assert_allclose(predicted, expected, rtol=1e-6, atol=1e-9)


def test_regressor_answers_with_floats(tmp_path):
    """A regressor that returns integers answers with FP64, in JSON and in binary data."""
    path = tmp_path / "model.pkl"
    write_without_card(path, DummyRegressor(strategy="constant", constant=3).fit(X, X[:, 0]))
    app = create_app(MODEL_PATH=str(path))
    assert in_process(app, "GET", "/v2/models/model").json["outputs"][0]["datatype"] == "FP64"

    for binary in (False, True):
        request = {"inputs": [TENSOR], "parameters": {"binary_data_output": binary}}
        body = msgspec.json.encode(request)
        response = in_process(app, "POST", "/v2/models/model/infer", body, JSON)
        if binary:
            values = np.frombuffer(response.body, "<f8", offset=len(response.body) - 8 * len(ROWS))
            assert values.tolist() == [3.0] * len(ROWS)
        else:
            assert b'"data":[3.0,3.0,3.0,3.0]' in response.body


def test_several_labels_have_no_name(tmp_path):
    """A row of a multilabel classifier has several classes, and its output no label."""
    estimator = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(X, TWO_LABELS)
    path = tmp_path / "model.pkl"
    write_with_card(path, estimator)
    app = create_app(MODEL_PATH=str(path))

    metadata = in_process(app, "GET", "/v2/models/test").json
    expected = [("predict", "INT64", [2]), ("predict_proba", "FP64", [2])]
    assert list(map(describe, metadata["outputs"])) == expected
    response = in_process(
        app, "POST", "/v2/models/test/infer", msgspec.json.encode({"inputs": [TENSOR]}), JSON
    )
    assert list(map(describe, response.json["outputs"])) == expected

    body = msgspec.json.encode({"features": ROWS.tolist(), "outputs": ["label"]})
    response = in_process(app, "POST", "/predict", body, JSON)
    assert (response.status, response.json) == (
        400,
        {"error": "This model has no label - at `$.outputs[0]`"},
    )
