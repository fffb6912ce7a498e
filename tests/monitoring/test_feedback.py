"""Feedback: true classes are counted beside the predictions."""

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from app import create_app
from helpers import JSON, SETOSA, VERSION, VIRGINICA, assert_json, in_process, predict, scrape
from serving.api.service import service_of
from trained_models import caller, train_app

X, y = load_iris(return_X_y=True)


def feedback(call, prediction, actual):
    return call(
        "POST", "/feedback", msgspec.json.encode({"prediction": prediction, "actual": actual}), JSON
    )


def test_feedback_counts_class_pairs(call):
    """Feedback counts by predicted and actual class."""
    assert_json(feedback(call, [0, 1, 2, 1], [0, 1, 1, 1]), 200, {"counted": 4})
    assert_json(feedback(call, [0], [0]), 200, {"counted": 1})
    pairs = {
        labels[1:]: n for labels, n in scrape(call).items() if labels[0] == "feedback_total" and n
    }
    assert pairs == {
        ("0", VERSION, "0"): 2,
        ("1", VERSION, "1"): 2,
        ("1", VERSION, "2"): 1,
    }  # actual, predicted


FEEDBACK_FAULTS = {
    "empty": (b"", "The body is empty"),
    "no members": (b"{}", "Object missing required field `prediction`"),
    "no truth": (b'{"prediction":[0]}', "Object missing required field `actual`"),
    "no rows": (
        b'{"prediction":[],"actual":[]}',
        "Expected at least 1 values, got 0 - at `$.prediction`",
    ),
    "fewer": (b'{"prediction":[0,1],"actual":[0]}', "Expected 2 values, got 1 - at `$.actual`"),
    "not a class": (
        b'{"prediction":[0,3],"actual":[0,1]}',
        "Expected a class of the model - at `$.prediction[1]`",
    ),
    "not a class either": (
        b'{"prediction":[0],"actual":[-1]}',
        "Expected a class of the model - at `$.actual[0]`",
    ),
    "a label": (
        b'{"prediction":["setosa"],"actual":[0]}',
        "Expected `int`, got `str` - at `$.prediction[0]`",
    ),
    "a bool": (
        b'{"prediction":[true],"actual":[0]}',
        "Expected `int`, got `bool` - at `$.prediction[0]`",
    ),
    "unknown member": (
        b'{"prediction":[0],"actual":[0],"x":1}',
        "Object contains unknown field `x`",
    ),
    "twice": (
        b'{"prediction":[0],"actual":[0],"actual":[1]}',
        "Object contains field `actual` twice",
    ),
    "not UTF-8": (b'{"prediction":[0],"actual":[0],"\xff":1}', "The body is not UTF-8"),
}


@pytest.mark.parametrize("fault", FEEDBACK_FAULTS)
def test_invalid_feedback_is_rejected(call, fault):
    """Invalid feedback is answered 400 with its place, and not counted."""
    body, message = FEEDBACK_FAULTS[fault]
    assert_json(call("POST", "/feedback", body, JSON), 400, {"error": message})
    assert not [labels for labels, n in scrape(call).items() if labels[0] == "feedback_total" and n]


def test_feedback_has_row_limit():
    """Feedback has the row limit of a prediction."""
    app = create_app(MAX_ROWS=2)
    answer = feedback(lambda *request: in_process(app, *request), [0, 0, 0], [0, 0, 0])
    assert_json(answer, 413, {"error": "Expected at most 2 rows, got 3 - at `$.actual`"})


@pytest.mark.parametrize(
    ("classes", "one"), [(["a", "b", "c"], "c"), ([True, False], False), ([0.0, 1.0, 2.0], 1.0)]
)
def test_classes_of_any_type_are_counted(tmp_path, classes, one):
    """Strings, booleans and floats are counted as classes, without a model card."""
    joblib.dump(
        LogisticRegression(max_iter=500).fit(X, np.array(classes)[y % len(classes)]),
        tmp_path / "model.pkl",
    )
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))

    def call(*request):
        return in_process(app, *request)

    prediction = predict(call, features=[SETOSA, VIRGINICA]).json["prediction"]
    assert feedback(call, [one, one], prediction).status == 200
    samples = scrape(call)
    version = service_of(app).model.version
    assert sum(samples["predictions_total", str(value), version] for value in set(prediction)) == 2
    assert (
        sum(
            n
            for labels, n in samples.items()
            if labels[0] == "feedback_total" and str(one) in labels
        )
        == 2
    )
    drift = call("GET", "/drift").json
    assert (drift["verdict"], drift["features"], drift["classes"]) == ("no reference", [], None)


CLASSES_OF_TYPES = {
    "strings": (["setosa", "versicolor", "virginica"], "Expected `str`, got `int`"),
    "booleans": ([False, True], "Expected `bool`, got `int`"),
    "floats": ([0.0, 1.0, 2.0], "Expected a class of the model"),
}


@pytest.mark.parametrize("name", CLASSES_OF_TYPES)
def test_feedback_takes_classes_of_any_type(tmp_path, name):
    """Classes of any type are fed back as they were predicted, with a model card."""
    classes, message = CLASSES_OF_TYPES[name]
    target = np.array(classes)[y % len(classes)]
    app = train_app(tmp_path, X, target, lambda: LogisticRegression(max_iter=500))
    call = caller(app)

    prediction = predict(call, features=X.tolist()).json["prediction"]
    assert_json(feedback(call, prediction, target.tolist()), 200, {"counted": len(X)})
    samples = scrape(call)
    pairs = {
        labels[1::2]: n for labels, n in samples.items() if labels[0] == "feedback_total" and n
    }
    n_correct = sum(n for (actual, predicted), n in pairs.items() if actual == predicted)
    assert n_correct == (np.array(prediction) == target).sum()
    assert sum(pairs.values()) == len(X)
    assert {actual for actual, _ in pairs} == set(map(str, classes))
    assert ("model_accuracy_reference", service_of(app).model.version) in samples
    assert call("GET", "/drift").json["classes"]["values"] == classes

    answer = feedback(call, [7], [7])
    assert answer.status == 400 and answer.json["error"].startswith(message)


def test_regressor_without_card_counts_rows(tmp_path):
    """A regressor without a model card counts rows; feedback is answered 400."""
    joblib.dump(LinearRegression().fit(X, y), tmp_path / "model.pkl")
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))

    def call(*request):
        return in_process(app, *request)

    predict(call, features=[SETOSA, VIRGINICA])
    assert scrape(call)["rows_total", service_of(app).model.version] == 2
    message = (
        "Feedback is not counted: the model has no classes, "
        "and no model card with the distribution of its predictions"
    )
    assert_json(feedback(call, [0.5], [1]), 400, {"error": message})


def test_feedback_sums_all_workers():
    """The feedback of every worker is in the metrics of each worker."""
    app = create_app()
    for slot in (1, 2, 3):
        service_of(app).telemetry.attach(slot)
        assert feedback(caller(app), [1], [2]).status == 200
    assert scrape(caller(app))["feedback_total", "2", VERSION, "1"] == 3
