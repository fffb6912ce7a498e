"""What the recording rules record: the index of GET /drift, the accuracy, the absolute error."""

import numpy as np
import pytest

from alert_rules import RULE, promql, promtool, series
from metric_series import REFERENCE, drift_series, pod_series, regressor_drift_series
from serving.monitoring.drift import assess_drift

FEEDBACK_COUNTS = [("a", "a", 8), ("b", "a", 2), ("b", "b", 9), ("a", "b", 1)]  # predicted, actual


@promtool
@pytest.mark.parametrize(
    "live", [(0, 4, 3, 5, 2, 6, 0), (1, 0, 0, 2, 9, 9, 9), (0, 1, 0, 0, 0, 1, 0)]
)
def test_recorded_drift_equals_service(tmp_path, live):
    """The recording rules give the index and the critical value of GET /drift."""
    expected = assess_drift(np.array(live) * 60.0, REFERENCE, 2)
    for name in ("psi", "critical"):
        found = promql(tmp_path, RULE, f'column:drift:{name}1h{{column="f"}}', drift_series(live))
        np.testing.assert_allclose(found, [expected[name]])
        query = f'column:drift:{name}1h{{column="predicted value"}}'
        found = promql(tmp_path, RULE, query, regressor_drift_series(live))
        np.testing.assert_allclose(found, [expected[name]])


@promtool
def test_recorded_error_is_mean_of_pods(tmp_path):
    """The mean absolute error is that of the rows with feedback, over all pods."""
    inputs = []
    for pod, rows, error_sum in (("p", 10, 20), ("q", 30, 120)):
        labels = {"namespace": "n", "container": "ml-model", "pod": pod, "model_version": "v"}
        inputs.append(series("feedback_absolute_error_count", rows, **labels))
        inputs.append(series("feedback_absolute_error_sum", error_sum, **labels))
    np.testing.assert_allclose(
        promql(tmp_path, RULE, "version:absolute_error:mean1d", inputs), [140 / 40]
    )


@promtool
def test_recorded_accuracy_counts_feedback(tmp_path):
    """The accuracy is that of the rows with feedback, in all and by class."""
    inputs = [
        pod_series("feedback_total", n, model_version="v", predicted=p, actual=a)
        for p, a, n in FEEDBACK_COUNTS
    ]
    np.testing.assert_allclose(
        promql(tmp_path, RULE, "version:accuracy:share1d", inputs), [17 / 20]
    )
    by_class = [
        promql(tmp_path, RULE, f'actual:accuracy:share1d{{actual="{a}"}}', inputs) for a in "ab"
    ]
    np.testing.assert_allclose(by_class, [[8 / 10], [9 / 10]])


@promtool
def test_recorded_accuracy_needs_no_pairs(tmp_path):
    """With many classes the accuracy follows from correct and incorrect rows of each class."""
    counts = [
        ("a", "a", 8),
        ("incorrect", "a", 2),
        ("other", "other", 9),
        ("incorrect", "other", 1),
    ]
    inputs = [
        pod_series("feedback_total", n, model_version="v", predicted=p, actual=a)
        for p, a, n in counts
    ]
    np.testing.assert_allclose(
        promql(tmp_path, RULE, "version:accuracy:share1d", inputs), [17 / 20]
    )
    np.testing.assert_allclose(
        promql(tmp_path, RULE, 'actual:accuracy:share1d{actual="a"}', inputs), [8 / 10]
    )
