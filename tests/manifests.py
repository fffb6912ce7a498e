"""The deployment as tests read it: manifests as rendered, workflows, alert rules."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers import ROOT

OVERLAYS = ("staging", "production", "experiment")

OLDEST_KUBERNETES = "1.34"  # the sleep action of preStop is stable since then

BIN = Path(sys.executable).parent  # kubectl is a package here

CUSTOM = re.compile(r"argoproj\.io|monitoring\.coreos\.com|gateway\.networking\.k8s\.io")


class Environ(dict):
    """An empty environment that remembers what it was asked for."""

    def get(self, name, default=None):
        self[name] = default
        return default

    def setdefault(self, name, default):
        return default


with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, "environ", ENVIRON := Environ())
    patch.setattr(sys, "excepthook", sys.excepthook)  # gunicorn.conf.py sets its own
    GUNICORN = runpy.run_path(str(ROOT / "gunicorn.conf.py"))

[BIND] = GUNICORN["bind"]

PORT = int(BIND.partition(":")[2])


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def render(path):
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", ROOT / path], capture_output=True, text=True, check=True
    )
    return list(yaml.safe_load_all(done.stdout))


RENDERED = {overlay: render(f"k8s/overlays/{overlay}") for overlay in OVERLAYS}

ARGO = [*render("k8s/argocd"), *documents(ROOT / "k8s/argocd/experiment.yaml")]

WORKFLOWS = {
    path.name: documents(path)[0] for path in sorted((ROOT / ".github/workflows").iterdir())
}


def the(kind, overlay="production", name="ml-model"):
    [found] = [
        one for one in RENDERED[overlay] if one["kind"] == kind and one["metadata"]["name"] == name
    ]
    return found


POD = the("Deployment")["spec"]["template"]["spec"]

[CONTAINER] = POD["containers"]

MONITORING = ROOT / "k8s" / "components" / "monitoring"

RULE = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]

CANARY = yaml.safe_load((ROOT / "k8s/components/rollout/prometheusrule.yaml").read_text())["spec"]

RULES = [rule for group in RULE["groups"] for rule in group["rules"]]

ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}

MINUTES = 100

promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: make test-monitoring"
)

prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs prometheus: make test-monitoring"
)


def series(name, per_minute, minutes=MINUTES, start=0, **labels):
    """Return a counter that grows so much a minute."""
    text = ", ".join(f'{key}="{value}"' for key, value in {"namespace": "n", **labels}.items())
    return {"series": f"{name}{{{text}}}", "values": f"{start}+{per_minute}x{minutes}"}


def promql(directory, rule, query, inputs, minutes=MINUTES):
    """Return the numbers that Prometheus answers to a query after so many minutes of the rule."""
    # promtool only compares: told something wrong, it says what it found.
    wrong = {
        "expr": query,
        "eval_time": f"{minutes}m",
        "exp_samples": [{"labels": "wrong", "value": 0}],
    }
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": [wrong]}
    (directory / "rules.yaml").write_text(yaml.safe_dump(rule))
    (directory / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=directory, capture_output=True, text=True
    )
    found = re.search("got: ?(.*)", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return [float(value) for value in re.findall(r"} ([^ ,]+)", found[1])]
