"""Regressors: predictions by bin, their drift, and feedback as absolute errors."""

from bisect import bisect_right

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from app import create_app
from fixture_models import model_file
from helpers import JSON, assert_json, predict, scrape
from serving.api.service import service_of
from serving.monitoring.drift import chi2_bound
from trained_models import caller

X = load_diabetes().data
N_COLUMNS = X.shape[1] + 1  # the features and the prediction


@pytest.fixture
def card():
    return msgspec.json.decode(model_file("diabetes").with_suffix(".json").read_bytes())


@pytest.fixture
def app():
    return create_app(MODEL_PATH=str(model_file("diabetes")))


@pytest.fixture
def call(app):
    return caller(app)


def feedback(call, prediction, actual):
    body = msgspec.json.encode({"prediction": prediction, "actual": actual})
    return call("POST", "/feedback", body, JSON)


def rows_by_bin(samples, version):
    """Return the number of rows in each bin of the prediction."""
    labels = ["below", *map(str, range(5)), "above"]
    return [samples["prediction_rows_total", label, version] for label in labels]


def test_predictions_are_counted_by_bin(app, call, card):
    """Each prediction is counted in its bin, of one row or of many, in all protocols."""
    predictions = []
    for row in X[:40].tolist():
        predictions += predict(call, features=row).json["prediction"]
    predictions += predict(call, features=X[40:80].tolist()).json["prediction"]
    body = msgspec.json.encode({"instances": X[80:90].tolist()})
    predictions += call("POST", "/v1/models/diabetes:predict", body, JSON).json["predictions"]

    expected = [0] * 7
    for prediction in predictions:
        expected[bisect_right(card["prediction"]["edges"], prediction)] += 1
    samples = scrape(call)
    assert rows_by_bin(samples, service_of(app).model.version) == expected
    assert sum(expected) == 90
    assert not [labels for labels in samples if labels[0] == "predictions_total"]


def test_reference_of_predictions_is_exposed(app, call, card):
    """The distribution of the predictions, its bound and the error of the card are metrics."""
    version = service_of(app).model.version
    samples = scrape(call)
    shares = [n for labels, n in samples.items() if labels[0] == "prediction_reference_share"]
    assert len(shares) == 7 and sum(shares) == pytest.approx(1)
    n_rows = card["prediction"]["shares"][1] * len(X)
    share = samples["prediction_reference_share", "1", version]
    assert share == pytest.approx((n_rows + 1) / (len(X) + 7))
    bound = samples["prediction_drift_bound", version]
    assert bound == pytest.approx(chi2_bound(7, N_COLUMNS))
    reference = samples["model_mean_absolute_error_reference", version]
    assert reference == card["metrics"]["cross_validation"]["mae"]
    assert ("model_accuracy_reference", version) not in samples


def test_drift_of_predictions_is_reported(call):
    """The training rows are quiet; rows with the highest predictions are drifting."""
    predictions = np.array(predict(call, features=X.tolist()).json["prediction"])
    report = call("GET", "/drift").json
    assert (report["verdict"], report["classes"], report["not_monitored"]) == ("quiet", None, [])
    prediction = report["prediction"]
    assert prediction["verdict"] == "quiet" and prediction["psi"] < 0.05
    assert len(prediction["bins"]) == len(prediction["live"]) == len(prediction["edges"]) + 1
    assert sum(prediction["live"]) == pytest.approx(1)

    highest = X[predictions > np.quantile(predictions, 0.8)].tolist()
    for _ in range(20):
        predict(call, features=highest)
    prediction = call("GET", "/drift").json["prediction"]
    assert prediction["verdict"] == "drifting" and prediction["live"][-2] > 0.7


def test_verdict_includes_predictions(app, call):
    """If the predictions alone are drifting, the verdict on all columns is drifting."""
    highest = [1e3] * len(X)
    service_of(app).telemetry.predictions.record(X, highest)
    report = call("GET", "/drift").json
    assert {feature["verdict"] for feature in report["features"]} == {"quiet"}
    assert report["prediction"]["live"][-1] == 1
    assert report["verdict"] == report["prediction"]["verdict"] == "drifting"


def test_feedback_sums_absolute_errors(app, call):
    """Feedback counts the rows and the sum of the absolute errors."""
    version = service_of(app).model.version
    name = "feedback_absolute_error"
    assert [scrape(call)[f"{name}_{part}", version] for part in ("count", "sum")] == [0, 0]
    assert_json(feedback(call, [150.5, 90, 3], [150, 100, -1.5]), 200, {"counted": 3})
    assert_json(feedback(call, [0], [1e3]), 200, {"counted": 1})
    assert [scrape(call)[f"{name}_{part}", version] for part in ("count", "sum")] == [4, 1015]


FAULTS = {
    "no rows": (b'{"prediction":[],"actual":[]}', "Expected at least 1 values, got 0 - at `$.p"),
    "fewer": (b'{"prediction":[0,1],"actual":[0]}', "Expected 2 values, got 1 - at `$.actual`"),
    "text": (b'{"prediction":[1],"actual":["1"]}', "Expected `float`, got `str` - at `$.actual[0]"),
    "a bool": (b'{"prediction":[true],"actual":[1]}', "Expected `float`, got `bool` - at `$.pred"),
    "missing": (b'{"prediction":[1],"actual":[null]}', "Expected `float`, got `null` - at `$.act"),
    "not finite": (b'{"prediction":[1],"actual":[NaN]}', "JSON is malformed"),
    "too large": (b'{"prediction":[1e308],"actual":[-1e308]}', "Expected `float` <= 3.4"),
    "infinite": (b'{"prediction":[1e999],"actual":[0]}', "Number out of range"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_invalid_feedback_is_rejected(app, call, fault):
    """Invalid feedback is answered 400 with its place, and not counted."""
    body, message = FAULTS[fault]
    answer = call("POST", "/feedback", body, JSON)
    assert answer.status == 400 and answer.json["error"].startswith(message)
    assert scrape(call)["feedback_absolute_error_count", service_of(app).model.version] == 0


def test_document_has_example_of_feedback(call, card):
    """The OpenAPI document has numbers as the example of feedback."""
    document = call("GET", "/openapi.json").json
    content = document["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"]
    value = card["reference"][0]["prediction"]
    assert content["example"] == {"prediction": [value], "actual": [value]}
    assert feedback(call, [value], [value]).status == 200
