"""The alerts, tested by promtool with made-up series."""

import json
import re
import subprocess

import numpy as np
import pytest
import yaml

from app import create_app
from manifests import (
    ALERTS,
    CANARY,
    MINUTES,
    MONITORING,
    RULE,
    promql,
    promtool,
    series,
)
from serving.api.service import service_of
from serving.monitoring.drift import assess_drift, chi2_bound, smoothed_shares
from serving.protocols.kserve_v1 import VERTEX_AI_PREDICT_RULE

DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())


def test_traffic_rules_select_scoring_routes():
    """Alerts and dashboard leave out the probes; the canary counts the scoring routes."""
    app = create_app()
    rules = list(app.url_map.iter_rules())
    scored = {rule.rule for rule in rules if "POST" in rule.methods} - {"/feedback"}
    alerts = (MONITORING / "prometheusrule.yaml").read_text()
    board = (MONITORING / "dashboard.json").read_text()
    [excluded] = set(re.findall(r'route!~\\?"([^"\\]+)', alerts + board))
    assert all(
        re.fullmatch(excluded, route)
        for route in service_of(app).probe_paths - {VERTEX_AI_PREDICT_RULE} | {"/metrics", "/drift"}
    )
    assert not any(re.fullmatch(excluded, route) for route in scored)
    [counted] = re.findall(
        r'route=~"([^"]+)', json.dumps(CANARY).replace("\\\\", "").replace('\\"', '"')
    )
    assert {rule.rule for rule in rules if re.fullmatch(counted, rule.rule)} == scored


def pod_series(name, per_minute, **labels):
    return series(name, per_minute, container="ml-model", pod="p", **labels)


def gauge(name, value, **labels):
    return pod_series(name, 0, **labels) | {"values": f"{value}+0x{MINUTES}"}


def request_series(good, bad=0, slow=0, route="/predict"):
    found = [
        pod_series("http_requests_total", n, method="POST", route=route, status=s)
        for s, n in ((200, good), (500, bad))
    ]
    buckets = {"0.1": good - slow, "0.25": good - slow, "1.0": good, "+Inf": good}
    return found + [
        pod_series("http_request_duration_seconds_bucket", n, route=route, le=le)
        for le, n in buckets.items()
    ]


def version_series(*roles):
    return [
        series(
            "model_info",
            0,
            start=1,
            container="ml-model",
            pod=f"p{i}",
            role=role,
            model_version=version,
        )
        for i, (role, version) in enumerate(roles)
    ]


REFERENCE = np.array([0, 30, 30, 30, 30, 30, 0])
BOUND = chi2_bound(7, 2)


def drift_series(live, classes=(1, 1), reference=REFERENCE):
    """Return the series of one feature and of two classes, each with so many rows per minute."""
    bins = ["below", *range(len(live) - 2), "above"]
    cells = [{"model_version": "v", "feature": "f", "bin": label} for label in bins]
    found = [
        pod_series("feature_rows_total", n, **labels) for labels, n in zip(cells, live, strict=True)
    ]
    found += [
        gauge("feature_reference_share", share, **labels)
        for labels, share in zip(cells, smoothed_shares(reference), strict=True)
    ]
    found += [gauge("feature_drift_bound", BOUND, model_version="v", feature="f")]
    found += [
        pod_series("predictions_total", n, model_version="v", **{"class": i})
        for i, n in enumerate(classes)
    ]
    found += [
        gauge("class_reference_share", 0.5, model_version="v", **{"class": i}) for i in range(2)
    ]
    found += [gauge("class_drift_bound", chi2_bound(2, 2), model_version="v")]
    return [*found, gauge("model_reference_rows", reference.sum(), model_version="v")]


def regressor_drift_series(live, reference=REFERENCE):
    """Return the series of the predictions of a regressor, with so many rows per minute by bin."""
    bins = ["below", *range(len(live) - 2), "above"]
    cells = [{"model_version": "v", "bin": label} for label in bins]
    found = [
        pod_series("prediction_rows_total", n, **labels)
        for labels, n in zip(cells, live, strict=True)
    ]
    found += [
        gauge("prediction_reference_share", share, **labels)
        for labels, share in zip(cells, smoothed_shares(reference), strict=True)
    ]
    found += [gauge("prediction_drift_bound", BOUND, model_version="v")]
    return [*found, gauge("model_reference_rows", reference.sum(), model_version="v")]


def error_series(rows, mean_error, reference=2):
    """Return the series of a regressor's feedback, with so many rows per minute."""
    return [
        gauge("model_mean_absolute_error_reference", reference, model_version="v"),
        pod_series("feedback_absolute_error_count", rows, model_version="v"),
        pod_series("feedback_absolute_error_sum", rows * mean_error, model_version="v"),
    ]


def feedback_series(right, wrong, reference=0.96):
    found = [gauge("model_accuracy_reference", reference, model_version="v")]
    for predicted, actual, n in (
        (0, 0, right / 2),
        (1, 1, right / 2),
        (0, 1, wrong / 2),
        (1, 0, wrong / 2),
    ):
        found.append(
            pod_series("feedback_total", n, model_version="v", predicted=predicted, actual=actual)
        )
    return found


CASES = {
    "MlModelErrors": {
        "quiet": [
            request_series(1000, bad=5),
            request_series(0),
            request_series(1000) + request_series(10, bad=10, route="/v2/health/ready"),
        ],
        "firing": [request_series(1000, bad=20)],
    },
    "MlModelSlow": {
        "quiet": [request_series(1000, slow=5), request_series(0)],
        "firing": [request_series(1000, slow=50)],
    },
    "MlModelNoTraffic": {
        "quiet": [[pod_series("rows_total", 0.1, model_version="v")]],
        "firing": [[pod_series("rows_total", 0, model_version="v")]],
    },
    "MlModelNotScraped": {
        "quiet": [version_series(("stable", "v"))],
        "firing": [[], request_series(1000)],
    },
    "MlModelVersionsDisagree": {
        "quiet": [version_series(("stable", "v"), ("stable", "v"), ("canary", "w"))],
        "firing": [
            version_series(("stable", "v"), ("stable", "w")),
            version_series(("", "v"), ("", "w")),
        ],
    },
    "MlModelReloadRefused": {
        "quiet": [[gauge("model_last_reload_successful", 1)]],
        "firing": [[gauge("model_last_reload_successful", 0)]],
    },
    "MlModelDrift": {
        "quiet": [
            drift_series([0, 10, 10, 10, 10, 10, 0]),
            drift_series([0, 1, 0, 0.1, 0, 0, 0]),  # too few rows
            drift_series([0, 0.8, 0.36, 0.36, 0.36, 0.36, 0]),  # above 0.1, but not significant
            drift_series(
                [0, 110, 90, 100, 100, 100, 0], (100, 101), REFERENCE * 1000
            ),  # significant, but below 0.1
            drift_series([0] * 7, (0, 0)),
            regressor_drift_series([0, 10, 10, 10, 10, 10, 0]),
        ],
        "firing": [
            drift_series([0, 0, 0, 0, 5, 10, 10]),
            drift_series([0, 1, 1, 1, 1, 1, 0], (9, 1)),
            regressor_drift_series([0, 0, 0, 0, 5, 10, 10]),
        ],
    },
    "MlModelAccuracyLow": {
        "quiet": [
            feedback_series(95, 5),
            feedback_series(92, 8),
            feedback_series(0.1, 0.5),
            feedback_series(0, 0),
        ],
        "firing": [feedback_series(90, 10), feedback_series(0, 5)],
    },
    "MlModelAbsoluteErrorHigh": {
        "quiet": [
            error_series(10, 2),
            error_series(10, 2.4),
            error_series(10, 0),
            error_series(0.1, 10),  # too few rows
            error_series(0, 0),
            feedback_series(0, 5),
        ],
        "firing": [error_series(10, 2.6), error_series(2, 1e6)],
    },
}
ALERT_CASES = [
    (name, state, inputs)
    for name, cases in CASES.items()
    for state in cases
    for inputs in cases[state]
]


def test_every_alert_has_cases():
    """Each alert has a case in which it fires and one in which it does not."""
    assert CASES.keys() == ALERTS.keys()


@promtool
@pytest.mark.parametrize(("name", "state", "inputs"), ALERT_CASES)
def test_alert_fires_in_its_cases(tmp_path, name, state, inputs):
    """An alert fires in its firing cases only."""
    found = promql(tmp_path, RULE, f'ALERTS{{alertname="{name}", alertstate="firing"}}', inputs)
    assert bool(found) == (state == "firing")


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


FEEDBACK_COUNTS = [("a", "a", 8), ("b", "a", 2), ("b", "b", 9), ("a", "b", 1)]


@promtool
def test_rules_pass_promtool_lint(tmp_path):
    """Promtool finds nothing to object to."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULE))
    subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml"],
        check=True,
    )


def test_alerts_have_runbooks():
    """Each alert has a severity, a summary and a runbook."""
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert (
            rule["annotations"].keys() == {"summary", "runbook"}
            and len(rule["annotations"]["runbook"]) > 100
        )
        assert re.fullmatch(r"\d+m", rule["for"])
