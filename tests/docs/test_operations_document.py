"""docs/operations.md: timeline, alerts and limits, compared with manifests and code."""

import re
from typing import get_args

import numpy as np
import pytest

from alert_rules import ALERTS, RELABELINGS
from documentation import DOCUMENTS, flat_text, quoted, table
from helpers import ROOT
from manifests import container_variable, gunicorn_settings, service_container, service_pod
from serving.model.card import FeatureInfo, FeatureType
from serving.monitoring.bins import MISSING, UNSEEN, bin_labels
from serving.monitoring.drift import MIN_PSI, MIN_ROWS, SIGNIFICANCE_LEVEL, assess_drift
from serving.monitoring.limits import MAX_CLASSES, MAX_FEATURE_BINS, MAX_PAIR_CLASSES
from serving.server.body_buffer import MAX_BUFFERED_BYTES
from serving.server.worker import MAX_INLINE_BODY_BYTES, SLOW_REQUEST_SECONDS

OPERATIONS = flat_text("operations.md")


def test_timeline_matches_manifests():
    """The timeline of a shutdown has the times of the manifests and of gunicorn."""
    wait = service_container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    graceful_timeout = gunicorn_settings()["graceful_timeout"]
    grace_period = service_pod()["terminationGracePeriodSeconds"]
    rows = table("operations.md", "Shutdown")
    assert [int(second) for second, _ in rows] == [0, wait, wait + graceful_timeout, grace_period]
    assert f"`preStop` waits {wait} s" in rows[0][1]
    assert f"`graceful_timeout`, {graceful_timeout} s" in rows[2][1]


def test_alerts_match_rules():
    """The table of alerts has every alert, with its numbers and its duration."""
    rows = {quoted(name)[0]: text for name, text in table("operations.md", "Metrics and alerts")}
    assert rows.keys() == ALERTS.keys()

    for name, alert in ALERTS.items():
        condition, duration = rows[name].rsplit(", for ", 1)
        assert duration == alert["for"]
        numbers = set(re.findall(r"(?<![\w.])[0-9.]+(?![\w.])", condition)) - {"15"}
        for number in numbers:
            assert re.search(rf"(?<![\w.]){number}(?![\w.])", alert["expr"]), name

    assert "[15m]" in ALERTS["MlModelNoTraffic"]["expr"]


def test_probe_label_matches_podmonitor():
    """The document names the label that the PodMonitor gives to probes."""
    [relabeling] = RELABELINGS
    assert f"probes and scrapes a label, `{relabeling['targetLabel']}`," in OPERATIONS
    text = (ROOT / "k8s/components/monitoring/podmonitor.yaml").read_text()
    assert "metricRelabelings:" in text


def test_metrics_port_matches_container():
    """The document names the port of the metrics."""
    ports = {port["name"]: port["containerPort"] for port in service_container()["ports"]}
    assert f"a separate port, {ports['metrics']}." in OPERATIONS


def test_drift_limits_match_code():
    """The document names the limits of the drift verdict."""
    assert f"`too few rows` below {MIN_ROWS} rows" in OPERATIONS
    assert f"above both the critical value and {MIN_PSI}, else" in OPERATIONS
    assert "by chance one time in twenty" in OPERATIONS
    assert SIGNIFICANCE_LEVEL == 1 / 20


@pytest.mark.parametrize(("n_training_rows", "percent"), [(10_000, 2), (150, 6)])
def test_unseen_share_matches_index(n_training_rows, percent):
    """The document names the shares of a new category that make a column drifting."""
    assert f"{percent} % of the rows" in OPERATIONS
    assert f"and {n_training_rows}." in OPERATIONS or f"{n_training_rows:,} rows, or" in OPERATIONS
    reference = np.array([0.5, 0.3, 0.2, 0]) * n_training_rows
    for unseen, expected in ((percent, "drifting"), (percent / 2, "quiet")):
        live = np.array([0.5, 0.3, 0.2, 0]) * (100 - unseen) + [0, 0, 0, unseen]
        assert assess_drift(live * 100, reference, 5)["verdict"] == expected


def test_monitoring_limits_match_code():
    """The table of limits names the limits of the code, and the number of features they allow."""
    limits = [int(row[0].split()[0]) for row in table("operations.md", "Limits of the monitoring")]
    assert limits == [MAX_FEATURE_BINS, MAX_CLASSES, MAX_PAIR_CLASSES]
    n_bins = len(bin_labels(FeatureInfo(name="x", edges=[0, 1, 2, 3, 4, 5])))
    assert f"which is {MAX_FEATURE_BINS // n_bins} numbers" in OPERATIONS


def test_columns_match_feature_types():
    """The table of bins has every type of feature, and the bins that are named."""
    rows = {row[0]: row[1] for row in table("operations.md", "Drift")}
    types = {name for column in rows for name in column.split(", ")}
    assert set(get_args(FeatureType)) <= types
    assert quoted(rows["boolean"]) == bin_labels(FeatureInfo(name="x", type="boolean"))
    assert quoted(rows["category"]) == [UNSEEN]
    assert quoted(rows["any feature that may be missing"]) == [MISSING]


def test_client_limits_match_server():
    """The document names the limits of the worker."""
    settings = gunicorn_settings()
    mib = MAX_BUFFERED_BYTES // 2**20
    assert f"{settings['worker_connections']} clients a worker and {mib} MiB" in OPERATIONS
    assert f"A client that is silent for {settings['timeout']} s" in OPERATIONS

    kib = MAX_INLINE_BODY_BYTES // 1024
    milliseconds = SLOW_REQUEST_SECONDS * 1000
    slow = f"Bodies above {kib} KiB, and paths that take more than {milliseconds:.0f} ms"
    assert slow in OPERATIONS
    assert f"by {settings['threads']} threads a worker" in OPERATIONS


def test_secret_matches_container():
    """The command that creates the keys names the secret that the container reads."""
    secret = container_variable("API_KEYS")["valueFrom"]["secretKeyRef"]
    command = f"create secret generic {secret['name']} --from-literal={secret['key']}="
    assert command in DOCUMENTS["operations.md"]
