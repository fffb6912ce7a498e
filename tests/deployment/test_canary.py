"""The analysis of a canary: promtool evaluates its rules and queries on synthetic series."""

import re
import subprocess

import numpy as np
import pytest
import yaml
from scipy.stats import chi2

from alert_rules import CANARY, promql, promtool, series
from helpers import ROOT
from serving.monitoring.limits import MAX_FEATURE_BINS

ROLLOUT = ROOT / "k8s" / "components" / "rollout"
TEMPLATE = yaml.safe_load((ROLLOUT / "analysistemplate.yaml").read_text())["spec"]
METRICS = {metric["name"]: metric for metric in TEMPLATE["metrics"]}
QUERIES = {
    name: metric["provider"]["prometheus"]["query"].replace("{{args.namespace}}", "n")
    for name, metric in METRICS.items()
}
EVALUATION_MINUTES = 20
WINDOW_MINUTES = 15


def classes(role, *rows_per_minute):
    """Return the counters of the rows that a role predicts for each class."""
    return [
        series("predictions_total", rows, role=role, model_version=role, **{"class": index})
        for index, rows in enumerate(rows_per_minute)
    ]


def prediction_bins(role, *rows_per_minute):
    """Return the counters of the rows whose prediction a regressor has in each bin."""
    return [
        series("prediction_rows_total", rows, role=role, model_version=role, bin=index)
        for index, rows in enumerate(rows_per_minute)
    ]


def bins(role, feature, *rows_per_minute):
    """Return the counters of the rows that a role scores in each bin of a feature."""
    return [
        series("feature_rows_total", rows, role=role, feature=feature, bin=index)
        for index, rows in enumerate(rows_per_minute)
    ]


def requests(role, good, bad=0, slow=0, route="/predict"):
    """Return the counters of a role's requests per minute: status 200, status 500, taking 2 s."""
    labels = {"role": role, "route": route}
    samples = [series("http_requests_total", good, method="POST", status=200, **labels)]
    if bad:
        samples.append(series("http_requests_total", bad, method="POST", status=500, **labels))

    buckets = {"0.001": good - slow, "1": good - slow, "2.5": good, "+Inf": good}
    for bound, per_minute in buckets.items():
        samples.append(
            series("http_request_duration_seconds_bucket", per_minute, le=bound, **labels)
        )
    return samples


def measure(directory, name, inputs):
    """Return the values of the query of a metric."""
    return promql(directory, CANARY, QUERIES[name], inputs, EVALUATION_MINUTES)


def verdict(name, result):
    """Return the verdict of a metric's conditions, which are Python expressions but for `&&`."""
    outcomes = {}
    for kind in ("success", "failure"):
        condition = METRICS[name][f"{kind}Condition"].replace("&&", "and")
        outcomes[kind] = eval(condition, {"len": len, "result": result})

    assert not (outcomes["success"] and outcomes["failure"])
    if outcomes["success"]:
        return "good"
    if outcomes["failure"]:
        return "bad"
    return "inconclusive"


STABLE = [
    *requests("stable", 1000),
    *classes("stable", 400, 300, 300),
    *bins("stable", "f", 50, 50),
    *bins("stable", "g", 50, 50),
]
CASES = {
    "error-share": {
        "good": [
            requests("canary", 100),
            requests("canary", 1000, bad=9),
            requests("canary", 100) + requests("canary", 60, bad=60, route="/readyz"),
        ],
        "bad": [
            requests("canary", 100, bad=2),
            requests("canary", 58, bad=2) + requests("canary", 240, route="/readyz"),
        ],
        "inconclusive": [
            [],
            requests("canary", 0),
            requests("canary", 240, route="/healthz"),
            requests("canary", 4, bad=4, route="/metrics"),
        ],
    },
    "p99-seconds": {
        "good": [requests("canary", 1000), requests("canary", 1000, slow=5)],
        "bad": [
            requests("canary", 1000, slow=50),
            requests("canary", 60, slow=2) + requests("canary", 240, route="/v2/health/live"),
        ],
        "inconclusive": [[], requests("canary", 0), requests("canary", 240, route="/healthz")],
    },
    "prediction-mix": {
        "good": [
            classes("canary", 200, 150, 150),
            classes("canary", 90, 75, 60),
            classes("canary", 4e5, 35e4, 25e4),
        ],
        "bad": [classes("canary", 100, 0, 0), classes("canary", 50, 25, 125)],
        "inconclusive": [[], classes("canary", 0, 0, 0), classes("canary", 1, 0, 60)],
    },
    "feature-shares": {
        "good": [bins("canary", "f", 48, 52) + bins("canary", "g", 52, 48)],
        "bad": [bins("canary", "f", 50, 50) + bins("canary", "g", 90, 10)],
        "inconclusive": [[], bins("canary", "f", 0, 0), bins("canary", "f", 60, 1)],
    },
}
REGRESSOR = prediction_bins("stable", 0, 200, 200, 200, 200, 200, 0)
MANY_CLASSES = classes("stable", *[70] * 100)
PREDICTION_CASES = [
    ("good", REGRESSOR, prediction_bins("canary", 0, 20, 22, 18, 19, 21, 0)),
    ("bad", REGRESSOR, prediction_bins("canary", 0, 0, 20, 20, 20, 20, 20)),
    ("inconclusive", REGRESSOR, []),
    ("inconclusive", REGRESSOR, prediction_bins("canary", 0, 10, 10, 10, 10, 10, 0)),
    ("good", MANY_CLASSES, classes("canary", *[4] * 100)),
    # 1500 rows, but only 15 for each class: chance alone would be above the limit.
    ("inconclusive", MANY_CLASSES, classes("canary", *[2] * 50, *[0] * 50)),
]
ANALYSIS_CASES = [
    (name, expected, canary)
    for name, verdicts in CASES.items()
    for expected, canaries in verdicts.items()
    for canary in canaries
]


@promtool
@pytest.mark.parametrize(("name", "expected", "canary"), ANALYSIS_CASES)
def test_analysis_gives_expected_verdict(tmp_path, name, expected, canary):
    """Each metric is good, bad or inconclusive as its case says."""
    assert verdict(name, measure(tmp_path, name, STABLE + canary)) == expected


@promtool
@pytest.mark.parametrize(("expected", "stable", "canary"), PREDICTION_CASES)
def test_analysis_compares_predictions_of_any_model(tmp_path, expected, stable, canary):
    """The predictions of regressors are compared by bin, those of many classes with enough rows."""
    assert (
        verdict("prediction-mix", measure(tmp_path, "prediction-mix", stable + canary)) == expected
    )


@promtool
def test_analysis_of_many_bins_needs_more_rows(tmp_path):
    """A feature of a hundred categories is compared with 50 rows for each of its bins only."""
    stable = bins("stable", "f", *[70] * 100)
    few_rows = bins("canary", "f", *[2] * 50, *[0] * 50)
    enough_rows = bins("canary", "f", *[4] * 50, *[3] * 50)
    assert verdict("feature-shares", measure(tmp_path, "feature-shares", stable + few_rows)) == (
        "inconclusive"
    )
    assert verdict("feature-shares", measure(tmp_path, "feature-shares", stable + enough_rows)) == (
        "good"
    )


@promtool
@pytest.mark.parametrize("canary_rows", [(100, 50, 50), (20, 30, 50), (400, 401, 399)])
def test_analysis_psi_follows_formula(tmp_path, canary_rows):
    """The index is that of shares with half a row more in each class or bin."""
    stable_rows = (400, 300, 300)
    stable_shares = padded_shares(stable_rows)
    canary_shares = padded_shares(canary_rows)
    log_ratios = np.log(canary_shares / stable_shares)
    expected = [np.sum((canary_shares - stable_shares) * log_ratios)]

    class_index = measure(tmp_path, "prediction-mix", STABLE + classes("canary", *canary_rows))
    np.testing.assert_allclose(class_index, expected)

    feature = bins("stable", "x", *stable_rows) + bins("canary", "x", *canary_rows)
    feature_index = measure(tmp_path, "feature-shares", feature)
    np.testing.assert_allclose(feature_index, expected)


def padded_shares(rows_per_minute):
    """Return the shares of the rows in the window, with half a row more each."""
    padded = np.array(rows_per_minute) * WINDOW_MINUTES + 0.5
    return padded / padded.sum()


@pytest.mark.parametrize("n_bins", [2, 7, 20, 102, MAX_FEATURE_BINS])
def test_chance_stays_below_limit(n_bins):
    """With the least rows on both sides, chance alone very rarely makes an index of 0.1."""
    # The index of two samples of one distribution is about chi-squared, times 1/N + 1/M.
    n_rows = max(1000, 50 * n_bins)
    assert chi2.sf(0.1 / (1 / n_rows + 1 / n_rows), df=n_bins - 1) < 0.001


@promtool
def test_canary_rules_pass_promtool_lint(tmp_path):
    """The rules pass the linter of promtool."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(CANARY))
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml"]
    subprocess.run(command, check=True)


def test_analysis_queries_recorded_series():
    """Each query of the analysis uses a series that a rule records."""
    recorded = {rule["record"] for group in CANARY["groups"] for rule in group["rules"]}
    for query in QUERIES.values():
        queried = re.search(r"[a-z0-9_]+(:[a-z0-9_]+)+", query)
        assert queried[0] in recorded
