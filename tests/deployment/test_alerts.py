"""The alerts, put to made-up series by promtool; drift as a real Prometheus sees it in a real service."""

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request

import msgspec
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris

from app import create_app
from helpers import JSON, NAMES, free_port, wait_until
from manifests import (
    ALERTS,
    CANARY,
    MINUTES,
    MONITORING,
    RULE,
    prometheus,
    promql,
    promtool,
    series,
)
from serving.monitoring.drift import assess_drift, chi2_bound, smoothed_shares
from serving.protocols.kserve_v1 import VERTEX_AI_PREDICT_RULE

DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
GROUPS = RULE["groups"] + CANARY["groups"]
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}


def test_traffic_is_what_is_scored_and_not_what_probes():
    app = create_app()
    rules = list(app.url_map.iter_rules())
    scored = {rule.rule for rule in rules if "POST" in rule.methods} - {"/feedback"}
    alerts, board = (
        (MONITORING / "prometheusrule.yaml").read_text(),
        (MONITORING / "dashboard.json").read_text(),
    )
    [excluded] = set(re.findall(r'route!~\\?"([^"\\]+)', alerts + board))
    assert all(
        re.fullmatch(excluded, route)
        for route in app.extensions["probes"] - {VERTEX_AI_PREDICT_RULE, ""}
        | {"/metrics", "/drift"}
    )
    assert not any(re.fullmatch(excluded, route) for route in scored)
    [counted] = re.findall(
        r'route=~"([^"]+)', json.dumps(CANARY).replace("\\\\", "").replace('\\"', '"')
    )
    assert {rule.rule for rule in rules if re.fullmatch(counted, rule.rule)} == scored


def ours(name, per_minute, **labels):
    return series(name, per_minute, container="ml-model", pod="p", **labels)


def gauge(name, value, **labels):
    return ours(name, 0, **labels) | {"values": f"{value}+0x{MINUTES}"}


def requests(good, bad=0, slow=0, route="/predict"):
    found = [
        ours("http_requests_total", n, method="POST", route=route, status=s)
        for s, n in ((200, good), (500, bad))
    ]
    buckets = {"0.1": good - slow, "0.25": good - slow, "1.0": good, "+Inf": good}
    return found + [
        ours("http_request_duration_seconds_bucket", n, route=route, le=le)
        for le, n in buckets.items()
    ]


def versions(*roles):
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


def columns(live, classes=(1, 1), reference=REFERENCE):
    """Return what the service shows of a feature, and of two classes as often in training, so many rows a minute."""
    bins = ["below", *range(len(live) - 2), "above"]
    cells = [{"model_version": "v", "feature": "f", "bin": label} for label in bins]
    found = [ours("feature_rows_total", n, **labels) for labels, n in zip(cells, live, strict=True)]
    found += [
        gauge("feature_reference_share", share, **labels)
        for labels, share in zip(cells, smoothed_shares(reference), strict=True)
    ]
    found += [gauge("feature_drift_bound", BOUND, model_version="v", feature="f")]
    found += [
        ours("predictions_total", n, model_version="v", **{"class": i})
        for i, n in enumerate(classes)
    ]
    found += [
        gauge("class_reference_share", 0.5, model_version="v", **{"class": i}) for i in range(2)
    ]
    found += [gauge("class_drift_bound", chi2_bound(2, 2), model_version="v")]
    return [*found, gauge("model_reference_rows", reference.sum(), model_version="v")]


def told(right, wrong, reference=0.96):
    found = [gauge("model_accuracy_reference", reference, model_version="v")]
    for predicted, actual, n in (
        (0, 0, right / 2),
        (1, 1, right / 2),
        (0, 1, wrong / 2),
        (1, 0, wrong / 2),
    ):
        found.append(
            ours("feedback_total", n, model_version="v", predicted=predicted, actual=actual)
        )
    return found


CASES = {
    "MlModelErrors": {
        "quiet": [
            requests(1000, bad=5),
            requests(0),
            requests(1000) + requests(10, bad=10, route="/v2/health/ready"),
        ],
        "firing": [requests(1000, bad=20)],
    },
    "MlModelSlow": {
        "quiet": [requests(1000, slow=5), requests(0)],
        "firing": [requests(1000, slow=50)],
    },
    "MlModelNoTraffic": {
        "quiet": [[ours("rows_total", 0.1, model_version="v")]],
        "firing": [[ours("rows_total", 0, model_version="v")]],
    },
    "MlModelNotScraped": {"quiet": [versions(("stable", "v"))], "firing": [[], requests(1000)]},
    "MlModelVersionsDisagree": {
        "quiet": [versions(("stable", "v"), ("stable", "v"), ("canary", "w"))],
        "firing": [versions(("stable", "v"), ("stable", "w")), versions(("", "v"), ("", "w"))],
    },
    "MlModelReloadRefused": {
        "quiet": [[gauge("model_last_reload_successful", 1)]],
        "firing": [[gauge("model_last_reload_successful", 0)]],
    },
    "MlModelDrift": {
        "quiet": [
            columns([0, 10, 10, 10, 10, 10, 0]),
            columns([0, 1, 0, 0.1, 0, 0, 0]),  # too few
            columns([0, 0.8, 0.36, 0.36, 0.36, 0.36, 0]),  # over 0.1, and no more than chance
            columns(
                [0, 110, 90, 100, 100, 100, 0], (100, 101), REFERENCE * 1000
            ),  # sure, and a trifle
            columns([0] * 7, (0, 0)),
        ],
        "firing": [columns([0, 0, 0, 0, 5, 10, 10]), columns([0, 1, 1, 1, 1, 1, 0], (9, 1))],
    },
    "MlModelAccuracyLow": {
        "quiet": [told(95, 5), told(92, 8), told(0.1, 0.5), told(0, 0)],
        "firing": [told(90, 10), told(0, 5)],
    },
}
JUDGED = [
    (name, state, inputs)
    for name, cases in CASES.items()
    for state in cases
    for inputs in cases[state]
]


def test_every_alert_is_tried():
    assert CASES.keys() == ALERTS.keys()


@promtool
@pytest.mark.parametrize(("name", "state", "inputs"), JUDGED)
def test_an_alert_fires_when_it_should_and_not_else(tmp_path, name, state, inputs):
    found = promql(tmp_path, RULE, f'ALERTS{{alertname="{name}", alertstate="firing"}}', inputs)
    assert bool(found) == (state == "firing")


@promtool
@pytest.mark.parametrize(
    "live", [(0, 4, 3, 5, 2, 6, 0), (1, 0, 0, 2, 9, 9, 9), (0, 1, 0, 0, 0, 1, 0)]
)
def test_prometheus_finds_the_index_and_its_critical_value_that_the_service_finds(tmp_path, live):
    expected = assess_drift(np.array(live) * 60.0, REFERENCE, 2)
    for name in ("psi", "critical"):
        found = promql(tmp_path, RULE, f'column:drift:{name}1h{{column="f"}}', columns(live))
        np.testing.assert_allclose(found, [expected[name]])


@promtool
def test_accuracy_is_of_the_rows_whose_truth_came_in_by_class_too(tmp_path):
    inputs = [
        ours("feedback_total", n, model_version="v", predicted=p, actual=a) for p, a, n in TOLD
    ]
    np.testing.assert_allclose(
        promql(tmp_path, RULE, "version:accuracy:share1d", inputs), [17 / 20]
    )
    by_class = [
        promql(tmp_path, RULE, f'actual:accuracy:share1d{{actual="{a}"}}', inputs) for a in "ab"
    ]
    np.testing.assert_allclose(by_class, [[8 / 10], [9 / 10]])


TOLD = [("a", "a", 8), ("b", "a", 2), ("b", "b", 9), ("a", "b", 1)]


@promtool
def test_the_rules_are_as_prometheus_wants_them(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULE))
    subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml"],
        check=True,
    )


def test_every_alert_says_what_to_do():
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert (
            rule["annotations"].keys() == {"summary", "runbook"}
            and len(rule["annotations"]["runbook"]) > 100
        )
        assert re.fullmatch(r"\d+m", rule["for"])


def queries():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_what_is_recorded_and_its_panels_do_not_overlap():
    named = {
        name for query in queries() for name in re.findall(r"[a-z0-9_]+(?::[a-z0-9_]+)+", query)
    }
    assert named <= RECORDED and "column:drift:critical1h" in named
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


class Prometheus:
    """A real one that scrapes a service each second, with our rules, but for how often they are looked at."""

    def __init__(self, directory, target):
        self.address = f"127.0.0.1:{free_port()}"
        often = [{**group, "interval": "1s"} for group in GROUPS]
        (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": often}))
        labels = {"namespace": "n", "container": "ml-model", "pod": "p", "role": "stable"}
        job = {"job_name": "ml-model", "static_configs": [{"targets": [target], "labels": labels}]}
        config = {
            "global": {"scrape_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [job],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        # The path as well: Debian's default is one place for all, where the last run's samples lie.
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=samples"]
        command.append(f"--web.listen-address={self.address}")
        self.process = subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)

    def ask(self, query):
        """Return {column: number}, or {"": number} of what has no column."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            data = json.load(answer)["data"]["result"]
        return {one["metric"].get("column", ""): float(one["value"][1]) for one in data}


@prometheus
def test_a_real_prometheus_sees_a_shifted_stream_and_no_drift_in_one_that_is_not(serve, tmp_path):
    port = free_port()
    service = serve(METRICS_PORT=port, LOG_LEVEL="error", PORT=free_port())
    watcher = Prometheus(tmp_path, f"127.0.0.1:{port}")
    X, rng, shift, done = load_iris().data, np.random.default_rng(0), [0.0], threading.Event()

    def stream():
        while not done.wait(0.05):
            rows = X[rng.integers(len(X), size=20)]
            rows[:, 1] += shift[0]
            body = msgspec.json.encode({"features": rows.tolist()})
            prediction = msgspec.json.decode(service.call("POST", "/predict", body, JSON).body)[
                "prediction"
            ]
            service.call(
                "POST",
                "/feedback",
                msgspec.json.encode({"prediction": prediction, "actual": prediction}),
                JSON,
            )

    sender = threading.Thread(target=stream)
    try:
        wait_until(
            lambda: watcher.ask("model_info") and watcher.ask("column_bin:rows:increase1h"), 60
        )
        sender.start()
        wait_until(lambda: watcher.ask("min(column:rows:increase1h)").get("", 0) > 1500, 60)
        drift = ("column:drift:psi1h", "column:drift:critical1h")
        # Each rule is looked at in its turn: the last ones see a first scrape later.
        wait_until(
            lambda: all(watcher.ask(name).keys() == {*NAMES, "predicted class"} for name in drift),
            60,
        )
        found, critical = map(watcher.ask, drift)
        assert all(found[column] < critical[column] for column in found)
        assert watcher.ask('ALERTS{alertname="MlModelDrift"}') == {}
        shift[0] = X[:, 1].std() * 2
        wait_until(
            lambda: watcher.ask('ALERTS{alertname="MlModelDrift", alertstate="pending"}'), 60
        )
        assert NAMES[1] in watcher.ask('ALERTS{alertname="MlModelDrift"}')
        assert {NAMES[0], NAMES[2], NAMES[3]}.isdisjoint(
            watcher.ask('ALERTS{alertname="MlModelDrift"}')
        )
        for query in queries():
            assert watcher.ask(query.replace("$namespace", ".*").replace("$column", ".*")), query
    finally:
        done.set()
        sender.join()
        watcher.process.terminate()
        watcher.process.wait()
