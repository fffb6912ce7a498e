"""The scope of the monitoring: what of a model is not counted, and that this is said."""

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from app import create_app
from documentation import flat_text
from helpers import JSON, assert_json, predict, scrape
from serving.api.service import service_of
from serving.monitoring.feedback_counters import FeedbackCounters
from serving.monitoring.limits import MAX_CLASSES, MAX_FEATURE_BINS, MAX_PAIR_CLASSES
from serving.monitoring.prediction_bins import ClassBins
from trained_models import caller, save_numeric_model

OPERATIONS = flat_text("operations.md")

iris = load_iris()
X = iris.data
TWO_TARGETS = np.c_[iris.target > 0, iris.target > 1].astype(int)

SEVERAL_OUTPUTS = "the model has several outputs"
NO_DISTRIBUTION = (
    "the model has no classes, and no model card with the distribution of its predictions"
)


def multilabel():
    # Its classes are one array, like those of a classifier with one output.
    return OneVsRestClassifier(LogisticRegression())


UNCOUNTED_MODELS = {
    "multi-output regressor": (LinearRegression(), TWO_TARGETS, SEVERAL_OUTPUTS),
    "multi-output classifier": (DecisionTreeClassifier(), TWO_TARGETS, SEVERAL_OUTPUTS),
    "multilabel classifier": (multilabel(), TWO_TARGETS, SEVERAL_OUTPUTS),
    "regressor of an old card": (LinearRegression(), iris.target, NO_DISTRIBUTION),
    "outlier detector": (IsolationForest(n_estimators=5), None, NO_DISTRIBUTION),
}


@pytest.mark.parametrize("has_card", [True, False])
@pytest.mark.parametrize("name", UNCOUNTED_MODELS)
def test_uncounted_predictions_are_said(tmp_path, name, has_card):
    """Rows and features are counted without their predictions; /drift and /feedback say why."""
    estimator, y, reason = UNCOUNTED_MODELS[name]
    path = tmp_path / "model.pkl"
    estimator.fit(X, y)
    if has_card:
        save_numeric_model(path, estimator, X)
    else:
        joblib.dump(estimator, path)
    app = create_app(MODEL_PATH=str(path))
    call = caller(app)

    assert predict(call, features=X[:3].tolist()).status == 200
    assert predict(call, features=X[0].tolist()).status == 200
    samples = scrape(call)
    assert samples["rows_total", service_of(app).model.version] == 4
    names = {labels[0] for labels in samples}
    assert not names & {"predictions_total", "prediction_rows_total", "feedback_total"}
    assert ("feature_rows_total" in names) is has_card

    report = call("GET", "/drift").json
    exclusions = [f"predictions: {reason}"]
    if not has_card:
        exclusions.insert(0, "features: the model has no model card")
    assert report["not_monitored"] == exclusions
    assert (report["classes"], report["prediction"]) == (None, None)
    body = b'{"prediction":[1],"actual":[1]}'
    error = {"error": f"Feedback is not counted: {reason}"}
    assert_json(call("POST", "/feedback", body, JSON), 400, error)


def test_outlier_detector_is_named(tmp_path):
    """With the task in the card, feedback for an outlier detector is refused for that reason."""
    path = tmp_path / "model.pkl"
    save_numeric_model(path, IsolationForest(n_estimators=5).fit(X), X, task="outlier_detector")
    call = caller(create_app(MODEL_PATH=str(path)))
    reason = "the model detects outliers and predicts neither a class nor a number"
    error = {"error": f"Feedback is not counted: {reason}"}
    assert_json(call("POST", "/feedback", b'{"prediction":[1],"actual":[1]}', JSON), 400, error)


@pytest.fixture(scope="module")
def wide_app(tmp_path_factory):
    """Return a service with 784 features, and its rows."""
    rows = np.random.default_rng(0).uniform(size=(50, 784))
    estimator = DecisionTreeClassifier(max_depth=2).fit(rows, np.arange(50) % 10)
    path = tmp_path_factory.mktemp("wide") / "model.pkl"
    save_numeric_model(path, estimator, rows)
    return create_app(MODEL_PATH=str(path)), rows


def test_features_are_limited(wide_app):
    """Of 784 features the first are monitored whose bins are within the limit."""
    app, rows = wide_app
    call = caller(app)
    assert predict(call, features=rows.tolist()).status == 200
    assert predict(call, features=rows[0].tolist()).status == 200

    report = call("GET", "/drift").json
    n_monitored = MAX_FEATURE_BINS // 7
    assert [item["name"] for item in report["features"]] == [f"x{i}" for i in range(n_monitored)]
    assert report["rows"] == 51
    assert report["not_monitored"] == [
        f"{784 - n_monitored} of 784 features: "
        f"the bins of all features together are limited to {MAX_FEATURE_BINS}"
    ]
    last = report["features"][-1]
    expected, _ = np.histogram([*rows[:, n_monitored - 1], rows[0, n_monitored - 1]], last["edges"])
    np.testing.assert_allclose(last["live"], np.array([0, *expected, 0]) / 51)


def test_later_features_use_the_rest(tmp_path):
    """A feature with too many categories is left out; the features after it are not."""
    # It would take an estimator of strings: the numbers here stand for themselves.
    rows = np.random.default_rng(0).integers(0, 2, size=(50, 3)).astype(float)
    path = tmp_path / "model.pkl"
    save_numeric_model(
        path, DecisionTreeClassifier().fit(rows, rows[:, 2]), rows, n_categories=MAX_FEATURE_BINS
    )
    app = create_app(MODEL_PATH=str(path))
    call = caller(app)
    features = [[int(row[0]), *row[1:]] for row in rows.tolist()]
    assert predict(call, features=features).status == 200
    assert predict(call, features=features[0]).status == 200
    report = call("GET", "/drift").json
    assert [item["name"] for item in report["features"]] == ["x1", "x2"]
    live = report["features"][1]["live"]
    assert live[1] == pytest.approx(np.mean([*(rows[:, 2] == 0), rows[0, 2] == 0]))


def test_series_of_wide_model_are_bounded(wide_app):
    """The series of a model with 784 features are bounded, and so is its memory, as documented."""
    app, _ = wide_app
    call = caller(app)
    n_series = sum(labels[0].startswith("feature_") for labels in scrape(call))
    assert n_series <= 2 * MAX_FEATURE_BINS + MAX_FEATURE_BINS // 4

    assert "`/metrics` has below 3,000 lines" in OPERATIONS
    assert call("GET", "/metrics").body.count(b"\n") < 3000
    telemetry = service_of(app).telemetry
    megabytes = (telemetry.predictions.n_bytes + telemetry.feedback.n_bytes) / 1e6
    assert f"the counters take {megabytes:.0f} MB instead of" in OPERATIONS


N_CLASSES = 1000
# The classes at the end are the most frequent ones.
SHARES = (np.arange(N_CLASSES) + 1) / (N_CLASSES * (N_CLASSES + 1) / 2)


@pytest.fixture
def app_of_many_classes(tmp_path):
    """Return a service with 1,000 classes, the numbers of the rows."""
    rows = np.arange(N_CLASSES)[:, np.newaxis] / N_CLASSES
    labels = [f"c{i}" for i in range(N_CLASSES)]
    estimator = DecisionTreeClassifier().fit(np.tile(rows, (2, 1)), labels * 2)
    order = [int(label[1:]) for label in estimator.classes_]
    path = tmp_path / "model.pkl"
    save_numeric_model(path, estimator, rows, shares=SHARES[order].tolist())
    return create_app(MODEL_PATH=str(path))


def test_classes_are_limited(app_of_many_classes):
    """Of 1,000 classes the most frequent ones are counted by class, the others together."""
    app = app_of_many_classes
    call = caller(app)
    version = service_of(app).model.version
    features = [[999 / N_CLASSES], [999 / N_CLASSES], [950 / N_CLASSES], [0.0], [0.5]]
    predict(call, features=features)
    predict(call, features=[0.25])

    samples = scrape(call)
    assert samples["predictions_total", "c999", version] == 2
    assert samples["predictions_total", "c950", version] == 1
    assert samples["predictions_total", "other", version] == 3
    for name in ("predictions_total", "class_reference_share"):
        series = [labels[1] for labels in samples if labels[0] == name]
        assert len(series) == MAX_CLASSES + 1 and "c899" not in series and "c900" in series
    other_share = samples["class_reference_share", "other", version]
    assert other_share == pytest.approx(
        (SHARES[: N_CLASSES - MAX_CLASSES].sum() * N_CLASSES + 1) / (N_CLASSES + MAX_CLASSES + 1)
    )

    report = call("GET", "/drift").json
    assert report["classes"]["values"][-1] == "other"
    assert report["classes"]["live"][-1] == pytest.approx(3 / 6)
    assert report["not_monitored"] == [
        f"900 of 1000 classes, which are counted together: the limit is {MAX_CLASSES} classes",
        "the class that was predicted instead of the actual one, in feedback: "
        f"the limit is {MAX_PAIR_CLASSES} classes",
    ]


def test_accuracy_follows_from_any_number_of_classes(app_of_many_classes):
    """Feedback of 1,000 classes counts correct and incorrect rows by actual class."""
    app = app_of_many_classes
    call = caller(app)
    version = service_of(app).model.version
    prediction = ["c999", "c1", "c1", "c2", "c999", "c3"]
    actual = ["c999", "c999", "c1", "c1", "c3", "c3"]
    body = msgspec.json.encode({"prediction": prediction, "actual": actual})
    assert_json(call("POST", "/feedback", body, JSON), 200, {"counted": 6})

    samples = scrape(call)
    pairs = {labels[1::2]: n for labels, n in samples.items() if labels[0] == "feedback_total"}
    assert {pair: n for pair, n in pairs.items() if n} == {  # actual, predicted
        ("c999", "c999"): 1,
        ("c999", "incorrect"): 1,
        ("other", "other"): 2,
        ("other", "incorrect"): 2,
    }
    assert len(pairs) == 2 * (MAX_CLASSES + 1)
    assert {labels[2] for labels in samples if labels[0] == "feedback_total"} == {version}
    assert "With 1,000 classes it has below 1,000 lines" in OPERATIONS
    assert call("GET", "/metrics").body.count(b"\n") < 1000
    telemetry = service_of(app).telemetry
    assert telemetry.predictions.n_bytes + telemetry.feedback.n_bytes < 3e6


def test_model_that_rejects_zeros_starts(tmp_path):
    """A classifier without a card that cannot score a row of zeros is served and counted."""
    estimator = make_pipeline(FunctionTransformer(np.log), LogisticRegression(max_iter=500))
    estimator.fit(X, iris.target)
    joblib.dump(estimator, tmp_path / "model.pkl")
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))
    call = caller(app)
    with np.errstate(divide="ignore"):
        assert predict(call, features=[0, 0, 0, 0]).status == 400
    assert predict(call, features=X[:50].tolist()).status == 200
    assert scrape(call)["predictions_total", "0", service_of(app).model.version] == 50


@pytest.mark.parametrize("n_classes", [MAX_PAIR_CLASSES, MAX_PAIR_CLASSES + 1])
def test_pairs_are_limited(n_classes):
    """Feedback is counted by pair of classes up to a number of classes."""
    columns = FeedbackCounters(ClassBins(range(n_classes))).by_class.columns
    if n_classes <= MAX_PAIR_CLASSES:
        assert len(columns) == n_classes**2
    else:
        assert len(columns) == 2 * n_classes


def test_labels_are_distinct(tmp_path):
    """Classes called as the label of a group are told from the group."""
    classes = ["incorrect", "other", *(f"c{i}" for i in range(MAX_CLASSES))]
    bins = ClassBins(classes)
    assert bins.labels[:2] == ["incorrect", "other"] and bins.labels[-1] == "(other)"
    counters = FeedbackCounters(bins)
    counters.record(["incorrect", "c0", "other"], ["incorrect", "incorrect", classes[-1]])
    counted = zip(counters.by_class.columns, counters.totals(), strict=True)
    assert {pair for pair, n in counted if n} == {
        ("incorrect", "incorrect"),
        ("(incorrect)", "incorrect"),
        ("(incorrect)", "(other)"),
    }


def test_exclusions_are_logged(wide_app, caplog):
    """What is not monitored is a line of the log at start, and none if all is monitored."""
    app, _ = wide_app
    path = service_of(app).settings.model_path
    with caplog.at_level("INFO", logger="serving.monitoring.scope"):
        create_app(MODEL_PATH=str(path))
    [message] = [record.message for record in caplog.records]
    assert message.startswith("not monitored: 642 of 784 features: ")
    caplog.clear()
    with caplog.at_level("INFO", logger="serving.monitoring.scope"):
        create_app()
    assert caplog.records == []
