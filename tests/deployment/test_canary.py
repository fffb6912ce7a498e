"""What the canary is judged by: rules and queries, put to made-up series by Prometheus's own test program."""

import re
import subprocess

import numpy as np
import pytest
import yaml
from scipy.stats import chi2

from helpers import ROOT
from manifests import promql, promtool, series

ROLLOUT = ROOT / "k8s" / "components" / "rollout"
TEMPLATE = yaml.safe_load((ROLLOUT / "analysistemplate.yaml").read_text())["spec"]
RULE = yaml.safe_load((ROLLOUT / "prometheusrule.yaml").read_text())["spec"]
METRICS = {metric["name"]: metric for metric in TEMPLATE["metrics"]}
MINUTES = 20
WINDOW = 15


def classes(role, *rows):
    """Return the counters of a role that predicts so many rows of each class a minute."""
    return [
        series("predictions_total", n, role=role, model_version=role, **{"class": i})
        for i, n in enumerate(rows)
    ]


def bins(role, name, *rows):
    return [
        series("feature_rows_total", n, role=role, feature=name, bin=i) for i, n in enumerate(rows)
    ]


def requests(role, good, bad=0, slow=0):
    """Return the counters of a role that answers so many requests a minute, of them some with 500, some in 2 s."""
    labels = {"role": role, "route": "/predict"}
    found = [series("http_requests_total", good, method="POST", status=200, **labels)]
    if bad:
        found.append(series("http_requests_total", bad, method="POST", status=500, **labels))
    buckets = {"0.001": good - slow, "1": good - slow, "2.5": good, "+Inf": good}
    return found + [
        series("http_request_duration_seconds_bucket", n, le=le, **labels)
        for le, n in buckets.items()
    ]


def measure(directory, name, inputs):
    """Return the numbers that Prometheus answers to the query of a metric."""
    query = METRICS[name]["provider"]["prometheus"]["query"].replace("{{args.namespace}}", "n")
    return promql(directory, RULE, query, inputs, MINUTES)


def verdict(name, result):
    """Return what the conditions of a metric make of an answer; but for `&&` they are Python as they stand."""
    conditions = [
        METRICS[name][f"{kind}Condition"].replace("&&", "and") for kind in ("success", "failure")
    ]
    success, failure = (eval(condition, {"len": len, "result": result}) for condition in conditions)
    assert not (success and failure)
    return "good" if success else "bad" if failure else "no answer"


STABLE = requests("stable", 1000) + classes("stable", 400, 300, 300)
STABLE += bins("stable", "f", 50, 50) + bins("stable", "g", 50, 50)
CASES = {
    "error-share": {
        "good": [requests("canary", 100), requests("canary", 1000, bad=9)],
        "bad": [requests("canary", 100, bad=2)],
        "no answer": [[], requests("canary", 0)],
    },
    "p99-seconds": {
        "good": [requests("canary", 1000), requests("canary", 1000, slow=5)],
        "bad": [requests("canary", 1000, slow=50)],
        "no answer": [[], requests("canary", 0)],
    },
    "class-mix": {
        "good": [
            classes("canary", 200, 150, 150),
            classes("canary", 90, 75, 60),
            classes("canary", 4e5, 35e4, 25e4),
        ],
        "bad": [classes("canary", 100, 0, 0), classes("canary", 50, 25, 125)],
        "no answer": [[], classes("canary", 0, 0, 0), classes("canary", 1, 0, 60)],
    },
    "feature-shares": {
        "good": [bins("canary", "f", 48, 52) + bins("canary", "g", 52, 48)],
        "bad": [bins("canary", "f", 50, 50) + bins("canary", "g", 90, 10)],
        "no answer": [[], bins("canary", "f", 0, 0), bins("canary", "f", 60, 1)],
    },
}


@promtool
@pytest.mark.parametrize(
    ("name", "expected", "canary"),
    [
        (name, expected, canary)
        for name, cases in CASES.items()
        for expected in cases
        for canary in cases[expected]
    ],
)
def test_canary_verdicts(tmp_path, name, expected, canary):
    """Each measurement of the canary passes, fails or has no result, as its case says."""
    assert verdict(name, measure(tmp_path, name, STABLE + canary)) == expected


@promtool
@pytest.mark.parametrize("rows", [(100, 50, 50), (20, 30, 50), (400, 401, 399)])
def test_canary_psi_equals_formula(tmp_path, rows):
    """The recording rule gives the population stability index."""
    other = (400, 300, 300)
    stable, canary = np.array(other) * WINDOW, np.array(rows) * WINDOW
    s, c = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (stable, canary))
    expected = [np.sum((c - s) * np.log(c / s))]
    np.testing.assert_allclose(
        measure(tmp_path, "class-mix", STABLE + classes("canary", *rows)), expected
    )
    feature = bins("stable", "x", *other) + bins("canary", "x", *rows)
    np.testing.assert_allclose(measure(tmp_path, "feature-shares", feature), expected)


def test_min_rows_bound_chance():
    """With the minimum of rows, chance alone stays below the failure limit."""
    # Two samples of one distribution: their index is about chi-squared times 1/N + 1/M.
    assert chi2.sf(0.1 / (1 / 1000 + 1 / 1000), df=20 - 1) < 0.001


@promtool
def test_canary_rules_pass_promtool_lint(tmp_path):
    """promtool finds nothing to object to."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULE))
    subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml"],
        check=True,
    )


def test_canary_queries_recorded_series():
    """The canary queries recorded series only."""
    recorded = {rule["record"] for group in RULE["groups"] for rule in group["rules"]}
    asked = {
        re.search(r"[a-z0-9_]+(:[a-z0-9_]+)+", m["provider"]["prometheus"]["query"])[0]
        for m in METRICS.values()
    }
    assert asked <= recorded
