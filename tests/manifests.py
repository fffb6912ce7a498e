"""The deployment as tests read it: manifests as rendered, workflows, image, alert rules."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import yaml

from helpers import ROOT
from serving.config import Settings

OVERLAYS = ("staging", "production", "experiment")

OLDEST_KUBERNETES = "1.34"  # the first version in which the sleep action of preStop is stable

BIN = Path(sys.executable).parent  # kubectl is installed here, as a Python package

CUSTOM_GROUPS = re.compile(r"argoproj\.io|monitoring\.coreos\.com|gateway\.networking\.k8s\.io")

DIGEST = re.compile("sha256:[0-9a-f]{64}")

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")

MAKEFILE = (ROOT / "Makefile").read_text()

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def gunicorn_settings():
    """Return the settings in gunicorn.conf.py, by name, without any environment variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {})
        patch.setattr(sys, "excepthook", sys.excepthook)  # gunicorn.conf.py sets its own
        return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def service_settings():
    """Return the field of Settings for each environment variable that the service reads."""
    return {setting.name.upper(): setting for setting in fields(Settings)}


def gunicorn_port():
    """Return the port that gunicorn listens on by default."""
    [bind] = gunicorn_settings()["bind"]
    return int(bind.rpartition(":")[2])


def documents(path):
    """Return the documents in a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def render(path):
    """Return the objects that kustomize renders from a folder."""
    command = [BIN / "kubectl", "kustomize", ROOT / path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(result.stdout))


@cache
def rendered_overlay(overlay):
    """Return the objects of an overlay as Argo CD applies them."""
    return render(f"k8s/overlays/{overlay}")


def rendered_object(kind, overlay="production", name="ml-model"):
    """Return the one object of that kind and name in an overlay."""
    [match] = [
        item
        for item in rendered_overlay(overlay)
        if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return match


def pod_template(item):
    """Return the pod that an object makes."""
    return item["spec"]["template"]["spec"]


def service_pod(overlay="production"):
    """Return the pod of the service."""
    return pod_template(rendered_object("Deployment", overlay))


def service_container(overlay="production"):
    """Return the one container of the service's pod."""
    [container] = service_pod(overlay)["containers"]
    return container


def container_variable(name):
    """Return an environment variable of the service's container."""
    [variable] = [item for item in service_container()["env"] if item["name"] == name]
    return variable


@cache
def argo_objects():
    """Return the project and the Applications of Argo CD."""
    return [*render("k8s/argocd"), *documents(ROOT / "k8s/argocd/experiment.yaml")]


@cache
def workflows():
    """Return each GitHub workflow by the name of its file."""
    paths = sorted((ROOT / ".github/workflows").iterdir())
    return {path.name: documents(path)[0] for path in paths}


def workflow_steps():
    """Return every step of every workflow, each with `file:job`."""
    return [
        (f"{file}:{name}", step)
        for file, workflow in workflows().items()
        for name, job in workflow["jobs"].items()
        for step in job.get("steps", [])
    ]


def released_image():
    """Return the name of the image that the release workflow pushes."""
    return workflows()["release.yml"]["env"]["IMAGE"]


def instructions(name):
    """Return the arguments of each instruction `name` in the Dockerfile, in order."""
    return [
        line.partition(" ")[2].strip()
        for line in DOCKERFILE.splitlines()
        if line.startswith(f"{name} ")
    ]


def assert_restricted(pod):
    """Assert that a pod meets the restricted standard and the stricter rules used here."""
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}

        resources = container["resources"]
        # Memory is reserved in full. The CPU has no limit: it would throttle on an idle node.
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}
        assert "cpu" in resources["requests"]

    assert pod["securityContext"] == service_pod()["securityContext"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("emptyDir" in volume for volume in pod.get("volumes", []))


def make(directory, *arguments, **options):
    """Run make in a directory and return the result."""
    command = ["make", "--no-print-directory", "--directory", directory, *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def deployment_texts(directory):
    """Return the text of every file below k8s/ and .github/, by its path."""
    files = [
        path
        for name in ("k8s", ".github")
        for path in (directory / name).rglob("*")
        if path.is_file()
    ]
    return {str(path.relative_to(directory)): path.read_text() for path in files}


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
    """Return a counter that grows by `per_minute` each minute."""
    text = ", ".join(f'{key}="{value}"' for key, value in {"namespace": "n", **labels}.items())
    return {"series": f"{name}{{{text}}}", "values": f"{start}+{per_minute}x{minutes}"}


def promql(directory, rule, query, inputs, minutes=MINUTES):
    """Return the numbers that a query gives after `minutes` minutes of the rule."""
    # promtool only compares: it prints the result when the expected sample is wrong.
    wrong = {
        "expr": query,
        "eval_time": f"{minutes}m",
        "exp_samples": [{"labels": "wrong", "value": 0}],
    }
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": [wrong]}
    unit = {"rule_files": ["rules.yaml"], "tests": [test]}
    (directory / "rules.yaml").write_text(yaml.safe_dump(rule))
    (directory / "test.yaml").write_text(yaml.safe_dump(unit))

    command = ["promtool", "test", "rules", "test.yaml"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    output = result.stdout + result.stderr
    match = re.search("got: ?(.*)", output)
    assert match, output
    return [float(value) for value in re.findall(r"} ([^ ,]+)", match[1])]
