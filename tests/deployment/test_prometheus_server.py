"""Drift of real services as a real Prometheus server records it, and the dashboard's queries."""

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request

import msgspec
import numpy as np
import yaml
from sklearn.datasets import load_diabetes, load_iris

from fixture_models import model_file
from helpers import JSON, free_port, wait_until
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
    """A Prometheus server that scrapes services and evaluates our rules once a second.

    `ports` are those of the services, each by the namespace in which it is.
    """

    def __init__(self, directory, ports):
        self.address = f"127.0.0.1:{free_port()}"
        frequent_groups = [{**group, "interval": "1s"} for group in GROUPS]
        (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": frequent_groups}))

        static_configs = []
        for namespace, port in ports.items():
            labels = {"namespace": namespace, "container": "ml-model", "pod": "p", "role": "stable"}
            static_configs.append({"targets": [f"127.0.0.1:{port}"], "labels": labels})
        config = {
            "global": {"scrape_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "ml-model", "static_configs": static_configs}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

        # Debian's default path is shared by all servers and holds the samples of earlier runs.
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=samples"]
        command.append(f"--web.listen-address={self.address}")
        self.process = subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)

    def query(self, query):
        """Return {(namespace, column): value}, with "" as a label that a series has not."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            data = json.load(response)["data"]["result"]
        values = {}
        for item in data:
            labels = item["metric"]
            value = float(item["value"][1])
            values[labels.get("namespace", ""), labels.get("column", "")] = value
        return values

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Stream:
    """Rows that are sent to a service, with their predictions as feedback, until it is stopped."""

    def __init__(self, service, rows):
        self.service = service
        self.rows = rows
        self.shift = np.zeros(rows.shape[1])
        self._rng = np.random.default_rng(0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def start(self):
        self._thread.start()

    def stop(self):
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send(self):
        while not self._stopped.wait(0.05):
            rows = self.rows[self._rng.integers(len(self.rows), size=20)] + self.shift
            body = msgspec.json.encode({"features": rows.tolist()})
            prediction = self.service.call("POST", "/predict", body, JSON).json["prediction"]
            feedback = {"prediction": prediction, "actual": prediction}
            self.service.call("POST", "/feedback", msgspec.json.encode(feedback), JSON)


@prometheus
def test_prometheus_reports_shifted_streams(serve, tmp_path):
    """A real Prometheus reports drift of a classifier and of a regressor once it begins."""
    iris = load_iris()
    diabetes = load_diabetes()
    datasets = {"iris": iris.data, "diabetes": diabetes.data}
    columns = {
        *(("iris", name) for name in [*iris.feature_names, "predicted class"]),
        *(("diabetes", name) for name in [*diabetes.feature_names, "predicted value"]),
    }
    ports = {}
    streams = {}
    for name, rows in datasets.items():
        ports[name] = free_port()
        service = serve(
            MODEL_PATH=str(model_file(name)),
            METRICS_PORT=ports[name],
            LOG_LEVEL="error",
            PORT=free_port(),
        )
        streams[name] = Stream(service, rows)
    server = Prometheus(tmp_path, ports)

    def are_columns(query):
        return server.query(query).keys() == columns

    try:
        wait_until(lambda: are_columns("max by (namespace, column) (column_bin:rows:increase1h)"))
        for stream in streams.values():
            stream.start()
        wait_until(lambda: server.query("min(column:rows:increase1h)").get(("", ""), 0) > 1500, 60)
        # The rules are evaluated in turn: the last ones see the first scrape later.
        wait_until(lambda: are_columns("column:drift:psi1h"), 60)
        wait_until(lambda: are_columns("column:drift:critical1h"), 60)
        psi = server.query("column:drift:psi1h")
        critical = server.query("column:drift:critical1h")
        assert all(psi[column] < critical[column] for column in psi)
        assert server.query('ALERTS{alertname="MlModelDrift"}') == {}

        shifted = {("iris", iris.feature_names[1]), ("diabetes", "bmi")}
        streams["iris"].shift[1] = iris.data[:, 1].std() * 2
        streams["diabetes"].shift[2] = diabetes.data[:, 2].std() * 2
        alerts = 'ALERTS{alertname="MlModelDrift", alertstate="pending"}'
        expected = shifted | {("diabetes", "predicted value")}
        wait_until(lambda: server.query(alerts).keys() >= expected, 60)
        unshifted_features = columns - expected - {("iris", "predicted class")}
        assert unshifted_features.isdisjoint(server.query(alerts))

        for query in queries():
            assert server.query(query.replace("$namespace", ".*").replace("$column", ".*")), query
    finally:
        for stream in streams.values():
            stream.stop()
        server.stop()
