"""The rules of Prometheus and promtool, which evaluates them on synthetic series."""

import re
import shutil
import subprocess

import pytest
import yaml

from helpers import ROOT

MONITORING = ROOT / "k8s" / "components" / "monitoring"

RULE = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]

CANARY = yaml.safe_load((ROOT / "k8s/components/rollout/prometheusrule.yaml").read_text())["spec"]

RULES = [rule for group in RULE["groups"] for rule in group["rules"]]

ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}

PODMONITOR = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text())["spec"]

RELABELINGS = PODMONITOR["podMetricsEndpoints"][0]["metricRelabelings"]

MINUTES = 100

promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: make test-monitoring"
)

prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs prometheus: make test-monitoring"
)


def relabel(labels):
    """Return the labels of a series as Prometheus stores them: the PodMonitor adds some."""
    stored = dict(labels)
    for rule in RELABELINGS:
        value = ";".join(str(labels.get(name, "")) for name in rule["sourceLabels"])
        if re.fullmatch(rule["regex"], value):
            stored[rule["targetLabel"]] = rule["replacement"]

    return stored


def series(name, per_minute, minutes=MINUTES, start=0, **labels):
    """Return a counter that grows by `per_minute` each minute."""
    stored = relabel({"namespace": "n", **labels})
    text = ", ".join(f'{key}="{value}"' for key, value in stored.items())
    return {"series": f"{name}{{{text}}}", "values": f"{start}+{per_minute}x{minutes}"}


def run_promtool(directory, rule, test):
    """Return what promtool prints for a test of a rule that fails, which is the result."""
    unit = {"rule_files": ["rules.yaml"], "tests": [{"interval": "1m", **test}]}
    (directory / "rules.yaml").write_text(yaml.safe_dump(rule))
    (directory / "test.yaml").write_text(yaml.safe_dump(unit))

    command = ["promtool", "test", "rules", "test.yaml"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    return result.stdout + result.stderr


def promql(directory, rule, query, inputs, minutes=MINUTES):
    """Return the numbers that a query gives after `minutes` minutes of the rule."""
    # promtool only compares: it prints the result when the expected sample is wrong.
    wrong = {
        "expr": query,
        "eval_time": f"{minutes}m",
        "exp_samples": [{"labels": "wrong", "value": 0}],
    }
    output = run_promtool(directory, rule, {"input_series": inputs, "promql_expr_test": [wrong]})
    match = re.search("got: ?(.*)", output)
    assert match, output
    return [float(value) for value in re.findall(r"} ([^ ,]+)", match[1])]


def firing_alerts(directory, name, inputs, minutes=MINUTES):
    """Return the namespace and the summary of each alert that fires after `minutes` minutes."""
    expected = {"alertname": name, "eval_time": f"{minutes}m", "exp_alerts": []}
    output = run_promtool(directory, RULE, {"input_series": inputs, "alert_rule_test": [expected]})
    assert "SUCCESS" in output or "got:[" in output, output

    alerts = []
    for labels, summary in re.findall(r'Labels:{(.*)}\n.* summary="([^"]*)"', output):
        namespace = re.search('namespace="([^"]*)"', labels)
        alerts.append((namespace[1] if namespace else None, summary))
    return alerts
