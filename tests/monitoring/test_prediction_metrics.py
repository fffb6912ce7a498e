"""Prediction metrics: rows, classes, bins, the reference and the drift report."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from helpers import (
    EXAMPLE_REQUEST,
    JSON,
    MODEL_FILE,
    NAMES,
    SETOSA,
    VERSION,
    VIRGINICA,
    predict,
    scrape,
)
from serving.monitoring import prediction_counters
from serving.monitoring.drift import FeatureBins
from serving.monitoring.prediction_bins import ClassBins
from serving.monitoring.prediction_counters import (
    INTERVAL_SECONDS,
    WINDOW_INTERVALS,
    PredictionCounters,
)

X, y = load_iris(return_X_y=True)


def test_predictions_count_rows_classes_bins(call):
    """Each row counts once by class and once for each feature; an outer edge holds its value."""
    predict(call, features=[SETOSA, VIRGINICA, VIRGINICA])
    predict(call, features=SETOSA)
    predict(call, features=[4.3, 100, -1, 2.5])  # an edge on either side holds its value
    samples = scrape(call)
    assert samples["rows_total", VERSION] == 5
    classes = [samples["predictions_total", str(i), VERSION] for i in range(3)]
    assert classes[2] >= 2 and sum(classes) == 5
    for name, expected in zip(
        NAMES, ({"0": 1}, {"above": 1}, {"below": 1}, {"above": 0, "4": 3}), strict=True
    ):
        assert expected == {b: samples["feature_rows_total", b, name, VERSION] for b in expected}
        assert (
            sum(
                n
                for labels, n in samples.items()
                if labels[0] == "feature_rows_total" and name in labels
            )
            == 5
        )


def test_rejected_rows_are_not_counted(call):
    """Rows of a request that is answered 400 are not scored."""
    predict(call, features=[[1, 1, 1, 1], [1, 1, 1]])
    assert scrape(call)["rows_total", VERSION] == 0


def test_reference_is_exposed(call):
    """The reference of the model card is among the metrics."""
    samples = scrape(call)
    card = msgspec.json.decode(MODEL_FILE.with_suffix(".json").read_bytes())
    assert samples["model_info", VERSION, "iris"] == 1
    assert samples["model_reference_rows", VERSION] == card["rows"] == 150
    assert (
        samples["model_accuracy_reference", VERSION]
        == card["metrics"]["cross_validation"]["accuracy"]
    )
    share = samples["feature_reference_share", "0", NAMES[0], VERSION]
    assert share == pytest.approx((150 * card["features"][0]["shares"][0] + 1) / (150 + 7))
    assert samples["class_reference_share", "1", VERSION] == pytest.approx(1 / 3)


def moved(column, by):
    rows = X[np.random.default_rng(0).integers(len(X), size=2000)].copy()
    rows[:, column] += by
    return rows.tolist()


def test_drift_report_verdicts(call):
    """The verdict is too few rows, quiet, or drifting with the feature that moved."""
    assert call("GET", "/drift").json["verdict"] == "too few rows"
    predict(call, features=X[:99].tolist())
    report = call("GET", "/drift").json
    assert (report["verdict"], report["rows"]) == ("too few rows", 99)
    assert report["features"][0]["psi"] is None
    predict(call, features=X[99:].tolist())
    report = call("GET", "/drift").json
    assert (report["verdict"], report["rows"]) == ("quiet", 150)
    assert report["classes"]["verdict"] == "quiet"
    for feature in report["features"]:
        assert feature["live"] == feature["reference"] and feature["psi"] < 0.05
        assert 0 < feature["critical"] < 1
    predict(call, features=moved(1, X[:, 1].std()))
    report = call("GET", "/drift").json
    assert (report["verdict"], report["model_version"]) == ("drifting", VERSION)
    assert [feature["verdict"] == "drifting" for feature in report["features"]] == [
        False,
        True,
        False,
        False,
    ]
    assert report["features"][1]["psi"] > report["features"][1]["critical"]
    assert report["features"][1]["live"][-1] > 0  # above the largest training value


def test_class_mix_can_drift(call):
    """The mix of the predicted classes is tested as well."""
    predict(call, features=X[:50].tolist() * 4)
    assert call("GET", "/drift").json["classes"]["verdict"] == "drifting"


def test_window_forgets_old_intervals(call, monkeypatch):
    """Rows leave the window when as many intervals have begun since."""
    now = [7.0]
    monkeypatch.setattr(prediction_counters.time, "monotonic", lambda: now[0])
    rows = []
    for _ in range(3 * WINDOW_INTERVALS):
        predict(call, features=[SETOSA] * 10)
        now[0] += INTERVAL_SECONDS
        rows.append(call("GET", "/drift").json["rows"])
    # What was counted in an interval is forgotten when as many intervals have begun since.
    assert rows == [
        min(10 * (i + 1), 10 * (WINDOW_INTERVALS - 1)) for i in range(3 * WINDOW_INTERVALS)
    ]
    now[0] += 5 * INTERVAL_SECONDS
    assert call("GET", "/drift").json["rows"] == 10 * (WINDOW_INTERVALS - 6)
    predict(call, features=SETOSA)
    assert call("GET", "/drift").json["rows"] == 10 * (WINDOW_INTERVALS - 6) + 1
    now[0] += 1000 * INTERVAL_SECONDS
    assert call("GET", "/drift").json["rows"] == 0
    predict(call, features=SETOSA)
    assert call("GET", "/drift").json["rows"] == 1
    now[0] += (WINDOW_INTERVALS - 1) * INTERVAL_SECONDS
    assert call("GET", "/drift").json["rows"] == 1
    now[0] += INTERVAL_SECONDS
    assert call("GET", "/drift").json["rows"] == 0
    assert scrape(call)["rows_total", VERSION] == 30 * WINDOW_INTERVALS + 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 5 * WINDOW_INTERVALS), min_size=1, max_size=40).map(sorted))
def test_window_holds_recent_intervals(intervals):
    """For any sequence of intervals, the window holds the rows of its own intervals."""
    counters = PredictionCounters(FeatureBins([[0, 1]]), ClassBins([0]))
    with pytest.MonkeyPatch.context() as patch:
        for interval in intervals:
            now = float(interval * INTERVAL_SECONDS)
            patch.setattr(prediction_counters.time, "monotonic", lambda now=now: now)
            counters.record(np.array([[0.5]]), [0])

        window = counters.window_totals()

    recent = [interval for interval in intervals if interval > intervals[-1] - WINDOW_INTERVALS]
    assert window.n_rows == len(recent)
    assert window.by_prediction.tolist() == [len(recent)]
    assert window.by_feature.tolist() == [0, len(recent), 0]


def test_window_sums_all_workers(serve):
    """The drift report is the same from each worker."""
    service = serve(WEB_CONCURRENCY="2")
    for _ in range(60):
        service.call("POST", "/predict", EXAMPLE_REQUEST, JSON)
    assert {service.call("GET", "/drift").json["rows"] for _ in range(8)} == {60}
