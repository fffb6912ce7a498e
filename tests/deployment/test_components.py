"""The components that an owner adds to an overlay: A/B route, model registry, nightly batch."""

import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from helpers import ROOT
from manifests import (
    ALL_COMPONENTS,
    DIGEST,
    OLDEST_KUBERNETES,
    assert_restricted,
    check_pod,
    documents,
    find_object,
    instructions,
    pod_template,
    released_image,
    render_with,
    rendered_object,
)


def test_ab_route_splits_traffic():
    """The A/B route splits the traffic of production by weight, or by header."""
    route = find_object(render_with("production", "ab"), "HTTPRoute")
    *by_header, by_weight = route["spec"]["rules"]
    assert sum(backend["weight"] for backend in by_weight["backendRefs"]) == 100

    variants = {}
    for rule in by_header:
        [header] = rule["matches"][0]["headers"]
        [backend] = rule["backendRefs"]
        variants[header["value"]] = backend
    assert variants.keys() == {"a", "b"}
    weightless = [{**backend, "weight": 0} for backend in by_weight["backendRefs"]]
    assert weightless == [{**variants[variant], "weight": 0} for variant in "ab"]

    for backend in variants.values():
        namespace = backend.get("namespace", "ml-model-production")
        service = rendered_object("Service", namespace.removeprefix("ml-model-"))
        assert backend["name"] == service["metadata"]["name"]
        assert [backend["port"]] == [port["port"] for port in service["spec"]["ports"]]

    grant = rendered_object("ReferenceGrant", "experiment")["spec"]
    assert grant["from"] == [
        {
            "group": "gateway.networking.k8s.io",
            "kind": "HTTPRoute",
            "namespace": route["metadata"]["namespace"],
        }
    ]
    assert grant["to"] == [{"group": "", "kind": "Service", "name": "ml-model"}]


@pytest.fixture(params=["staging", "production"])
def registry_overlay(request):
    """Return the name of an overlay and its objects, with the component `registry`."""
    return request.param, render_with(request.param, "registry")


def list_registry_pods(rendered):
    return [pod_template(find_object(rendered, "Deployment")), check_pod(rendered)]


def test_registry_pods_pull_their_version(registry_overlay):
    """With the component `registry` service and check pull the version that they use."""
    _, rendered = registry_overlay
    pods = list_registry_pods(rendered)
    assert pods[0]["initContainers"] == pods[1]["initContainers"]

    for pod in pods:
        assert_restricted(pod)
        [init] = pod["initContainers"]
        [container] = pod["containers"]
        command, uri, option, model_path = init["args"]
        assert command == "pull"
        assert option == "--model"
        assert re.fullmatch("models:/[^/@]+/[0-9]+", uri)

        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert variables["MODEL_PATH"] == model_path
        [written] = init["volumeMounts"]
        mounts = [
            {key: value for key, value in mount.items() if key != "readOnly"}
            for mount in container["volumeMounts"]
        ]
        assert written in mounts
        assert Path(model_path).parent == Path(written["mountPath"])
        init_variables = {variable["name"]: variable["value"] for variable in init["env"]}
        for name in ("TMPDIR", "MPLCONFIGDIR"):  # the root file system is read-only
            assert init_variables[name] == written["mountPath"]
        assert written["name"] in [volume["name"] for volume in pod["volumes"]]
        assert DIGEST.fullmatch(init["image"].removeprefix(f"{released_image()}@"))


def test_registry_policies_admit_tracking_server(registry_overlay):
    """With the component `registry` the network policies admit the tracking server as well."""
    overlay, rendered = registry_overlay
    [init] = list_registry_pods(rendered)[0]["initContainers"]
    variables = {variable["name"]: variable["value"] for variable in init["env"]}
    pattern = r"https?://[\w.-]+:([0-9]+)"
    [port] = re.fullmatch(pattern, variables["MLFLOW_TRACKING_URI"]).groups()
    policies = [item["spec"] for item in rendered if item["kind"] == "NetworkPolicy"]

    for name in ("ml-model", "ml-model-check"):
        before = rendered_object("NetworkPolicy", overlay, name)["spec"]
        [after] = [spec for spec in policies if spec["podSelector"] == before["podSelector"]]
        *others, added = after["egress"]
        assert others == before["egress"]
        [server] = added["to"]
        assert list(server["namespaceSelector"]["matchLabels"]) == ["kubernetes.io/metadata.name"]
        assert added["ports"] == [{"protocol": "TCP", "port": int(port)}]


@pytest.fixture
def batch_objects():
    """Return the objects that the component `batch` adds, by kind."""
    added = {
        item["kind"]: item
        for item in render_with("production", "batch")
        if item["metadata"]["name"] == "ml-model-batch"
    }
    # No claim: a sync waits until a claim is bound, and that may be when the first pod starts.
    assert added.keys() == {"CronJob", "NetworkPolicy", "ServiceAccount"}
    return added


def test_no_component_has_a_claim():
    """A claim is bound when its first pod starts, which must not keep a sync waiting."""
    objects = render_with("production", *ALL_COMPONENTS)
    assert "PersistentVolumeClaim" not in {item["kind"] for item in objects}


def test_batch_job_ends(batch_objects):
    """The nightly batch does not run twice at once, has a deadline and is cleaned up."""
    spec = batch_objects["CronJob"]["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] >= 100
    assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= spec.keys()
    assert {"activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"} <= job.keys()


def test_batch_pod_has_own_account(batch_objects):
    """The nightly batch runs the batch image with an account of its own."""
    pod = pod_template(batch_objects["CronJob"]["spec"]["jobTemplate"])
    [container] = pod["containers"]
    assert pod["restartPolicy"] == "Never"
    assert pod["serviceAccountName"] == batch_objects["ServiceAccount"]["metadata"]["name"]
    assert re.fullmatch(rf"{released_image()}@{DIGEST.pattern}", container["image"])


def test_batch_pod_mounts_documented_claim(batch_objects):
    """The nightly batch mounts the claim that a person makes, and may write to it."""
    pod = pod_template(batch_objects["CronJob"]["spec"]["jobTemplate"])
    [claim] = documents(ROOT / "k8s/components/batch/persistentvolumeclaim.yaml")
    kubernetes_validate.validate(claim, OLDEST_KUBERNETES, strict=True)
    [volume] = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    [user] = set(instructions("USER"))
    assert pod["securityContext"]["fsGroup"] == int(user.partition(":")[2])


def run_batch_command(batch_objects, volume, tmp_path):
    """Run the command of the nightly batch with a `python` that prints its arguments."""
    [container] = pod_template(batch_objects["CronJob"]["spec"]["jobTemplate"])["containers"]
    [mount] = container["volumeMounts"]
    program = tmp_path / "bin/python"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)

    command = [word.replace(mount["mountPath"], str(volume)) for word in container["command"]]
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": path})


def test_batch_scores_its_volume(batch_objects, tmp_path):
    """The nightly batch reads from its volume, writes to it and skips bad rows."""
    volume = tmp_path / "data"
    (volume / "in").mkdir(parents=True)
    (volume / "in/monday.csv").touch()
    result = run_batch_command(batch_objects, volume, tmp_path)
    assert result.stdout == f"batch.py {volume}/in {volume}/out --on-error skip\n"
    assert result.returncode == 0


def test_batch_takes_empty_volume(batch_objects, tmp_path):
    """A night without files, such as the first one, does not fail, and the folder is there."""
    volume = tmp_path / "data"
    volume.mkdir()
    result = run_batch_command(batch_objects, volume, tmp_path)
    assert result.stdout == f"{volume}/in is empty\n"
    assert result.returncode == 0
    assert (volume / "in").is_dir()


def test_batch_pod_has_no_network(batch_objects):
    """The nightly batch has no network, and the Service does not select it."""
    job = batch_objects["CronJob"]["spec"]["jobTemplate"]["spec"]
    labels = job["template"]["metadata"]["labels"]
    assert batch_objects["NetworkPolicy"]["spec"] == {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],
    }
    assert not rendered_object("Service")["spec"]["selector"].items() <= labels.items()
