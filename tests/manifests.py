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
from tempfile import TemporaryDirectory

import pytest
import yaml

from helpers import ROOT
from serving.config import Settings

OVERLAYS = ("staging", "production", "experiment")

ALL_COMPONENTS = sorted(path.name for path in (ROOT / "k8s/components").iterdir())

# The components of the overlays in tests of one object, whatever an owner added or removed.
COMPONENTS = {"staging": (), "production": ("monitoring", "rollout"), "experiment": ()}

# The stages of the Dockerfile that are released, and their names in the manifests.
IMAGES = {
    "service": "flask-ml-model",
    "batch": "flask-ml-model-batch",
    "registry": "flask-ml-model-registry",
}

OLDEST_KUBERNETES = "1.34"  # the first version in which the sleep action of preStop is stable

BIN = Path(sys.executable).parent  # kubectl is installed here, as a Python package

CUSTOM_GROUPS = re.compile(
    r"argoproj\.io|monitoring\.coreos\.com|gateway\.networking\.k8s\.io|keda\.sh"
)

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
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


@cache
def rendered_overlay(overlay):
    """Return the objects of an overlay as Argo CD applies them."""
    return render(f"k8s/overlays/{overlay}")


def set_components(directory, overlay, components, **others):
    """Write the components of an overlay, and other keys, in a copy of the manifests."""
    path = directory / "k8s/overlays" / overlay / "kustomization.yaml"
    [kustomization] = documents(path)
    kustomization["components"] = [f"../../components/{name}" for name in components]
    path.write_text(yaml.safe_dump(kustomization | others))


@cache
def render_with(overlay, *components):
    """Return the objects of an overlay with exactly these components, in this order."""
    with TemporaryDirectory() as directory:
        shutil.copytree(ROOT / "k8s", Path(directory) / "k8s")
        set_components(Path(directory), overlay, components)
        return render(Path(directory) / "k8s/overlays" / overlay)


def find_object(objects, kind, name="ml-model"):
    """Return the one object of that kind and name."""
    [match] = [
        item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return match


def rendered_object(kind, overlay="production", name="ml-model"):
    """Return an object of an overlay, with the components that its tests are about.

    The overlay itself has those that its owner chose.
    """
    return find_object(render_with(overlay, *COMPONENTS[overlay]), kind, name)


def pod_template(item):
    """Return the pod that an object makes."""
    return item["spec"]["template"]["spec"]


def pods_of(item):
    """Return every pod that is described in an object, at any depth."""
    if isinstance(item, list):
        return [pod for value in item for pod in pods_of(value)]
    if not isinstance(item, dict):
        return []
    if "containers" in item:
        return [item]

    return pods_of(list(item.values()))


def check_pod(objects):
    """Return the pod of the check, which a Job makes or, with a canary, an AnalysisTemplate."""
    [check] = [
        item
        for item in objects
        if item["metadata"]["name"] == "ml-model-check" and item["kind"] != "NetworkPolicy"
    ]
    [pod] = pods_of(check)
    return pod


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
    paths = sorted((ROOT / "k8s/argocd").glob("*.yaml"))
    return [item for path in paths for item in documents(path)]


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

    # No user: OpenShift refuses one, and the image has a numeric one that is not root.
    context = {key: value for key, value in pod["securityContext"].items() if key != "fsGroup"}
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for volume in pod.get("volumes", []):
        assert {"emptyDir", "persistentVolumeClaim"} & volume.keys()


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
