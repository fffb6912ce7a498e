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

from alert_rules import CANARY, MONITORING, RELABELINGS, RULE, prometheus
from fixture_models import model_file
from helpers import JSON, free_port, wait_until

DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
GROUPS = RULE["groups"] + CANARY["groups"]
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}


# Their series come from the kubelet.
KUBELET_METRICS = "container_memory_"


def list_targets():
    """Return the query and the legend of each line of the dashboard."""
    targets = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [(target["expr"], target["legendFormat"]) for target in targets]


def render_legend(template, labels):
    """Return the legend that Grafana shows for a series."""
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), template)


def test_dashboard_queries_recorded_series():
    """The dashboard queries existing series, and its panels do not overlap."""
    named = set()
    for query, _ in list_targets():
        named |= set(re.findall(r"[a-z0-9_]+(?::[a-z0-9_]+)+", query))
    assert named <= RECORDED and "column:drift:critical1h" in named
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_dashboard_sums_within_namespaces():
    """No line of the dashboard adds up several namespaces, and each names its own."""
    for query, legend in list_targets():
        assert "{{namespace}}" in legend
        for labels in re.findall(r"\b(?:sum|max|min|avg|count)(?: by \(([^)]*)\))?", query):
            assert "namespace" in labels.split(", "), query


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
            "scrape_configs": [
                {
                    "job_name": "ml-model",
                    "static_configs": static_configs,
                    "metric_relabel_configs": list(map(relabel_config, RELABELINGS)),
                }
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

        # Debian's default path is shared by all servers and holds the samples of earlier runs.
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=samples"]
        command.append(f"--web.listen-address={self.address}")
        self.process = subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)

    def query_series(self, query):
        """Return the series of a query, each with its labels and its value."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]["result"]

    def query(self, query):
        """Return {(namespace, column): value}, with "" as a label that a series has not."""
        values = {}
        for item in self.query_series(query):
            labels = item["metric"]
            value = float(item["value"][1])
            values[labels.get("namespace", ""), labels.get("column", "")] = value
        return values

    def stop(self):
        self.process.terminate()
        self.process.wait()


def relabel_config(relabeling):
    """Return a rule of a PodMonitor as Prometheus itself has it: its keys in snake case."""
    return {
        re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key): value
        for key, value in relabeling.items()
    }


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

        # The scrapes themselves are requests, and are marked.
        assert server.query('http_requests_total{route="/metrics", probe="true"}')
        assert not server.query('http_requests_total{route="/metrics", probe=""}')

        legends = []
        for query, template in list_targets():
            found = server.query_series(query.replace("$namespace", ".*").replace("$column", ".*"))
            assert found or KUBELET_METRICS in query, query
            legends.append([render_legend(template, item["metric"]) for item in found])
        for lines in legends:
            assert sorted(set(lines)) == sorted(lines)
    finally:
        for stream in streams.values():
            stream.stop()
        server.stop()
