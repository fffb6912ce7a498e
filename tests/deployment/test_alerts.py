"""The alerts, tested by promtool with made-up series."""

import json
import re
import subprocess

import pytest
import yaml

from alert_rules import (
    ALERTS,
    CANARY,
    MINUTES,
    MONITORING,
    RELABELINGS,
    RULE,
    firing_alerts,
    promql,
    promtool,
)
from app import create_app
from metric_series import (
    REFERENCE,
    drift_series,
    error_series,
    feedback_series,
    gauge,
    in_container,
    pod_series,
    regressor_drift_series,
    request_series,
    stream_series,
    version_series,
)
from serving.api.service import service_of
from serving.protocols.kserve_v1 import VERTEX_AI_PREDICT_RULE


def test_probe_routes_are_marked():
    """The PodMonitor marks the probes and scrapes, and no route that a client uses."""
    app = create_app()
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    [relabeling] = RELABELINGS
    assert relabeling["sourceLabels"] == ["route"]
    marked = {rule for rule in rules if re.fullmatch(relabeling["regex"], rule)}

    probes = service_of(app).probe_paths - {VERTEX_AI_PREDICT_RULE}
    assert marked == rules & (probes | {"/metrics", "/drift"})


def test_probe_routes_are_named_once():
    """The alerts, the canary and the dashboard leave out what the PodMonitor marks."""
    [relabeling] = RELABELINGS
    label = relabeling["targetLabel"]
    queries = json.dumps([RULE, CANARY]) + (MONITORING / "dashboard.json").read_text()
    assert "route=" not in queries
    assert "route!" not in queries
    selectors = re.findall(r"http_request(?:s_total|_duration_seconds_bucket){([^}]*)}", queries)
    assert len(selectors) > 5
    assert all(f'{label}=\\"\\"' in selector for selector in selectors)


def up_series(namespace, values):
    labels = f'namespace="{namespace}", container="ml-model", pod="p"'
    return {"series": f"up{{{labels}}}", "values": values}


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
        "quiet": [[up_series("n", f"1x{MINUTES}")]],
        "firing": [[], request_series(1000), [up_series("n", f"0x{MINUTES}")]],
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
            in_container("ml-model-stream", drift_series([0, 0, 0, 0, 5, 10, 10])),
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
CASES["MlModelStreamBehind"] = {
    "quiet": [
        stream_series(60, lag=500),
        stream_series(60, lag=0),
        stream_series(0, lag=0),
        stream_series(60, lag=500, n_consumers=5),  # each shows the lag of the group
        stream_series(6000, lag=1000, broker="kafka"),
    ],
    "firing": [
        stream_series(60, lag=700),
        stream_series(0, lag=1),
        stream_series(60, lag=400, n_consumers=2, broker="kafka"),  # 800 in all
    ],
}
CASES["MlModelStreamErrors"] = {
    "quiet": [stream_series(100), stream_series(0), stream_series(96, rejected=2, failed=2)],
    "firing": [stream_series(90, rejected=10), stream_series(90, failed=10)],
}
CASES["MlModelStreamBrokerDown"] = {
    "quiet": [stream_series(1), stream_series(1, up=(0, 1), n_consumers=2)],
    "firing": [stream_series(1, up=(0,)), stream_series(1, up=(0, 0), n_consumers=2)],
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
    ("production", "expected"),
    [
        (f"1x{MINUTES}", []),
        ("1x30 stale", ["production"]),  # its pods are gone
        (f"1x30 0x{MINUTES}", ["production"]),  # its pods do not answer
    ],
)
@pytest.mark.parametrize("minutes", [45, 85, MINUTES])
def test_lost_namespace_is_reported(tmp_path, production, expected, minutes):
    """If production is gone from minute 30, its alert fires and names it while staging is up."""
    inputs = [up_series("staging", f"1x{MINUTES}"), up_series("production", production)]
    alerts = firing_alerts(tmp_path, "MlModelNotScraped", inputs, minutes)
    assert [namespace for namespace, _ in alerts] == expected
    assert all("any pod in production:" in summary for _, summary in alerts)


@promtool
def test_unknown_namespace_is_reported(tmp_path):
    """If nothing was ever scraped, the alert says so without a namespace."""
    [(namespace, summary)] = firing_alerts(tmp_path, "MlModelNotScraped", [], 45)
    assert namespace is None
    assert "any pod in any namespace:" in summary


@promtool
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("MlModelDrift", drift_series([0, 0, 0, 0, 5, 10, 10])),
        ("MlModelAbsoluteErrorHigh", error_series(10, 2.7)),
    ],
)
def test_summaries_round_values(tmp_path, name, inputs):
    """A summary has a rounded value, not fifteen digits."""
    alerts = firing_alerts(tmp_path, name, inputs)
    assert alerts
    for _, summary in alerts:
        assert re.search(r" \d+\.\d+ ", summary)
        assert not re.search(r"\d\.\d{4}", summary)


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
