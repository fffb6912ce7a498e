"""Models of all kinds, as the service responds for them."""

import logging

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from app import create_app
from helpers import JSON, in_process

X, y = load_iris(return_X_y=True)
TWO_COLUMNS = np.c_[y, X[:, 3] > 1]


@pytest.fixture
def create_app_of(save_and_load, tmp_path):
    """Return a function that creates the app of a fitted estimator."""

    def create_app_of(estimator):
        save_and_load(estimator)
        return create_app(MODEL_PATH=str(tmp_path / "model.pkl"))

    return create_app_of


def post_predict(app, payload, status=200):
    """Post `payload` to /predict, check the status, and return the response as JSON."""
    response = in_process(app, "POST", "/predict", msgspec.json.encode(payload), JSON)
    assert response.status == status, response.body
    return response.json


def test_classes_may_be_words(create_app_of):
    """Classes of type str are predicted and labelled."""
    words = np.array(["no", "maybe", "yes"], dtype=object)[y]
    app = create_app_of(LogisticRegression(max_iter=500).fit(X, words))
    payload = {"features": X[0].tolist(), "outputs": ["label", "probability"]}
    response = post_predict(app, payload)
    assert response["prediction"] == ["no"]
    assert response["label"] == ["class no"]
    assert np.argmax(response["probability"][0]) == 1


def test_regressor_has_predictions_only(create_app_of):
    """A regressor is served, and has neither labels nor probabilities."""
    fitted = LinearRegression().fit(X, X[:, 0] / 3)
    app = create_app_of(fitted)
    response = post_predict(app, {"features": X[:2].tolist()})
    assert response == {"prediction": fitted.predict(X[:2]).tolist()}

    for outputs in (["label", "probability"], ["probability"]):
        payload = {"features": X[0].tolist(), "outputs": outputs}
        message = f"This model has no {outputs[0]} - at `$.outputs[0]`"
        assert post_predict(app, payload, 400) == {"error": message}


def test_multiple_outputs_are_rows(create_app_of):
    """A prediction of several outputs is a list for each row, without probabilities."""
    fitted = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, TWO_COLUMNS)
    app = create_app_of(fitted)
    response = post_predict(app, {"features": X[:2].tolist()})
    assert response == {"prediction": fitted.predict(X[:2]).tolist()}

    payload = {"features": X[0].tolist(), "outputs": ["probability"]}
    assert "no probability" in post_predict(app, payload, 400)["error"]


def test_values_outside_the_domain_are_a_client_error(create_app_of, caplog):
    """Values that the estimator rejects are status 400, and are not logged."""
    app = create_app_of(make_pipeline(FunctionTransformer(np.log), Ridge()).fit(X, y))
    response = post_predict(app, {"features": [1, 1, 1, -1]}, 400)
    assert response == {"error": "The model cannot score these values"}
    assert "the estimator rejected rows: ValueError in _assert_all_finite" in caplog.text
    assert post_predict(app, {"features": X[0].tolist()})


def test_infinite_prediction_is_a_client_error(create_app_of):
    """A prediction that is not finite is status 400 and names the row."""
    fitted = LinearRegression().fit(X, y)
    fitted.coef_ = np.full(4, 1e300)
    app = create_app_of(fitted)
    response = post_predict(app, {"features": [X[0].tolist(), [3e38] * 4]}, 400)
    assert response == {"error": "The model has no finite prediction for row 1"}


def test_model_without_card_is_served(tmp_path, caplog):
    """The model of the article's nine lines, without a card, is served with a warning."""
    path = tmp_path / "model.pkl"
    joblib.dump(LogisticRegression(max_iter=200).fit(X, y), path)
    app = create_app(MODEL_PATH=str(path))
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        f"{path} has no model card: no feature names, labels, drift reference or self-test"
    )

    payload = {"features": [5.1, 3.5, 1.4, 0.2], "outputs": ["probability"]}
    response = post_predict(app, payload)
    assert response["prediction"] == [0]
    assert len(response["probability"][0]) == 3

    message = "Object contains unknown field `sepal length (cm)` - at `$.features`"
    response = post_predict(app, {"features": {"sepal length (cm)": 1}}, 400)
    assert response == {"error": message}
    response = post_predict(app, {"features": [1, 2, 3, 4], "outputs": ["label"]}, 400)
    assert "no label" in response["error"]
    assert in_process(app, "GET", "/readyz").status == 200


def test_model_of_data_frame_uses_names_of_card(create_app_of):
    """A model that was fitted on a data frame is served under the feature names of its card."""
    fitted = LogisticRegression(max_iter=500).fit(X, y)
    # As pandas would have left it.
    fitted.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    app = create_app_of(fitted)
    features = dict(zip("dcba", X[0][::-1].tolist(), strict=True))
    assert post_predict(app, {"features": features}) == {"prediction": [0]}
