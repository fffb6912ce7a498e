"""Drift in a real service as a real Prometheus server records it, and the dashboard's queries."""

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request

import msgspec
import numpy as np
import yaml
from sklearn.datasets import load_iris

from helpers import JSON, NAMES, free_port, wait_until
from manifests import (
    CANARY,
    MONITORING,
    RULE,
    prometheus,
)

DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
GROUPS = RULE["groups"] + CANARY["groups"]
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}


def queries():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_dashboard_queries_recorded_series():
    """The dashboard queries existing series, and its panels do not overlap."""
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
    """A Prometheus server that scrapes a service and evaluates our rules once a second."""

    def __init__(self, directory, target):
        self.address = f"127.0.0.1:{free_port()}"
        frequent_groups = [{**group, "interval": "1s"} for group in GROUPS]
        (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": frequent_groups}))
        labels = {"namespace": "n", "container": "ml-model", "pod": "p", "role": "stable"}
        job = {"job_name": "ml-model", "static_configs": [{"targets": [target], "labels": labels}]}
        config = {
            "global": {"scrape_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [job],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        # Debian's default path is shared by all servers and holds the samples of earlier runs.
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=samples"]
        command.append(f"--web.listen-address={self.address}")
        self.process = subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)

    def query(self, query):
        """Return {column: value}, with "" as the column of a series without one."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            data = json.load(response)["data"]["result"]
        return {item["metric"].get("column", ""): float(item["value"][1]) for item in data}


@prometheus
def test_prometheus_reports_shifted_stream(serve, tmp_path):
    """A real Prometheus reports drift once a stream is shifted, and not before."""
    port = free_port()
    service = serve(METRICS_PORT=port, LOG_LEVEL="error", PORT=free_port())
    server = Prometheus(tmp_path, f"127.0.0.1:{port}")
    X = load_iris().data
    rng = np.random.default_rng(0)
    shift = [0.0]
    stopped = threading.Event()

    def stream():
        while not stopped.wait(0.05):
            rows = X[rng.integers(len(X), size=20)]
            rows[:, 1] += shift[0]
            body = msgspec.json.encode({"features": rows.tolist()})
            prediction = service.call("POST", "/predict", body, JSON).json["prediction"]
            feedback = {"prediction": prediction, "actual": prediction}
            service.call("POST", "/feedback", msgspec.json.encode(feedback), JSON)

    sender = threading.Thread(target=stream)
    try:
        wait_until(
            lambda: server.query("model_info") and server.query("column_bin:rows:increase1h"), 60
        )
        sender.start()
        wait_until(lambda: server.query("min(column:rows:increase1h)").get("", 0) > 1500, 60)
        drift = ("column:drift:psi1h", "column:drift:critical1h")
        # The rules are evaluated in turn: the last ones see the first scrape later.
        wait_until(
            lambda: all(server.query(name).keys() == {*NAMES, "predicted class"} for name in drift),
            60,
        )
        psi = server.query("column:drift:psi1h")
        critical = server.query("column:drift:critical1h")
        assert all(psi[column] < critical[column] for column in psi)
        assert server.query('ALERTS{alertname="MlModelDrift"}') == {}
        shift[0] = X[:, 1].std() * 2
        wait_until(
            lambda: server.query('ALERTS{alertname="MlModelDrift", alertstate="pending"}'), 60
        )
        assert NAMES[1] in server.query('ALERTS{alertname="MlModelDrift"}')
        assert {NAMES[0], NAMES[2], NAMES[3]}.isdisjoint(
            server.query('ALERTS{alertname="MlModelDrift"}')
        )
        for query in queries():
            assert server.query(query.replace("$namespace", ".*").replace("$column", ".*")), query
    finally:
        stopped.set()
        sender.join()
        server.process.terminate()
        server.process.wait()
