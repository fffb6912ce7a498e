"""The components that an owner adds to an overlay: A/B route, model registry, nightly batch."""

import re
from pathlib import Path

import kubernetes_validate
import pytest

from manifests import (
    CUSTOM_GROUPS,
    DIGEST,
    OLDEST_KUBERNETES,
    assert_restricted,
    instructions,
    pod_template,
    released_image,
    render,
    rendered_object,
    service_container,
    service_pod,
)


def render_with_component(directory, component, overlay="production"):
    """Add a component to an overlay of a copy, as docs/ says, and render it."""
    path = directory / "k8s/overlays" / overlay / "kustomization.yaml"
    text, _, components = path.read_text().partition("components:\n")
    path.write_text(f"{text}components:\n  - ../../components/{component}\n{components}")
    return render(path.parent)


def test_ab_route_splits_traffic(deployment_copy):
    """The A/B route splits the traffic of production by weight, or by header."""
    rendered = render_with_component(deployment_copy, "ab")
    [route] = [item for item in rendered if item["kind"] == "HTTPRoute"]
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
def registry_overlay(request, deployment_copy):
    """Return the name of an overlay and its objects, with the component `registry`."""
    return request.param, render_with_component(deployment_copy, "registry", request.param)


def list_registry_pods(rendered):
    return [pod_template(item) for item in rendered if item["kind"] in ("Deployment", "Job")]


def test_registry_objects_are_valid(registry_overlay):
    """With the component `registry` every object is still valid."""
    _, rendered = registry_overlay
    for item in rendered:
        if not CUSTOM_GROUPS.search(item["apiVersion"]):
            kubernetes_validate.validate(item, OLDEST_KUBERNETES, strict=True)


def test_registry_pods_pull_their_version(registry_overlay):
    """With the component `registry` service and check pull the version that they use."""
    _, rendered = registry_overlay
    pods = list_registry_pods(rendered)
    assert len(pods) == 2
    assert pods[0]["initContainers"] == pods[1]["initContainers"]

    for pod in pods:
        assert_restricted(pod)
        [init] = pod["initContainers"]
        [container] = pod["containers"]
        command, uri, option, model_path = init["args"]
        assert command == "pull"
        assert option == "--model"
        assert re.fullmatch("models:/[a-z]+/[0-9]+", uri)

        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert variables["MODEL_PATH"] == model_path
        [written] = init["volumeMounts"]
        mounts = [
            {key: value for key, value in mount.items() if key != "readOnly"}
            for mount in container["volumeMounts"]
        ]
        assert written in mounts
        assert Path(model_path).parent == Path(written["mountPath"])
        assert Path(init["env"][-1]["value"]) == Path(written["mountPath"])
        assert written["name"] in [volume["name"] for volume in pod["volumes"]]
        assert DIGEST.fullmatch(init["image"].removeprefix(f"{released_image()}@"))


def test_registry_policies_admit_tracking_server(registry_overlay):
    """With the component `registry` the network policies admit the tracking server as well."""
    overlay, rendered = registry_overlay
    [init] = list_registry_pods(rendered)[0]["initContainers"]
    variables = {variable["name"]: variable["value"] for variable in init["env"]}
    pattern = r"http://(\w+)\.(\w+):([0-9]+)"
    _, namespace, port = re.fullmatch(pattern, variables["MLFLOW_TRACKING_URI"]).groups()
    policies = [item["spec"] for item in rendered if item["kind"] == "NetworkPolicy"]

    for name in ("ml-model", "ml-model-check"):
        before = rendered_object("NetworkPolicy", overlay, name)["spec"]
        [after] = [spec for spec in policies if spec["podSelector"] == before["podSelector"]]
        *others, added = after["egress"]
        assert others == before["egress"]
        to = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        assert added == {"to": [to], "ports": [{"protocol": "TCP", "port": int(port)}]}


@pytest.fixture
def batch_objects(deployment_copy):
    """Return the objects that the component `batch` adds, by kind, validated."""
    rendered = render_with_component(deployment_copy, "batch")
    added = {
        item["kind"]: item for item in rendered if item["metadata"]["name"] == "ml-model-batch"
    }
    assert added.keys() == {"CronJob", "NetworkPolicy", "PersistentVolumeClaim", "ServiceAccount"}
    for item in added.values():
        kubernetes_validate.validate(item, OLDEST_KUBERNETES, strict=True)

    return added


def test_batch_job_ends(batch_objects):
    """The nightly batch does not run twice at once, has a deadline and is cleaned up."""
    spec = batch_objects["CronJob"]["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] >= 100
    assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= spec.keys()
    assert {"activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"} <= job.keys()


def test_batch_pod_is_restricted(batch_objects):
    """The pod of the nightly batch has the security settings of the service."""
    pod = pod_template(batch_objects["CronJob"]["spec"]["jobTemplate"])
    [container] = pod["containers"]
    context = service_pod()["securityContext"]
    assert pod["securityContext"] == context | {"fsGroup": context["runAsGroup"]}
    assert container["securityContext"] == service_container()["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["serviceAccountName"] == batch_objects["ServiceAccount"]["metadata"]["name"]

    resources = container["resources"]
    assert resources["limits"] == {"memory": resources["requests"]["memory"]}
    assert "cpu" in resources["requests"]
    assert re.fullmatch(rf"{released_image()}@{DIGEST.pattern}", container["image"])


def test_batch_pod_reads_and_writes_its_volume(batch_objects):
    """The nightly batch reads from its volume, writes to it and skips bad rows."""
    pod = pod_template(batch_objects["CronJob"]["spec"]["jobTemplate"])
    [container] = pod["containers"]
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "ml-model-batch"

    source, target, *options = container["args"]
    assert source.startswith(mount["mountPath"])
    assert target.startswith(mount["mountPath"])
    assert options == ["--on-error", "skip"]
    assert '["python", "batch.py"]' in instructions("ENTRYPOINT")


def test_batch_pod_has_no_network(batch_objects):
    """The nightly batch has no network, and the Service does not select it."""
    job = batch_objects["CronJob"]["spec"]["jobTemplate"]["spec"]
    labels = job["template"]["metadata"]["labels"]
    assert batch_objects["NetworkPolicy"]["spec"] == {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],
    }
    assert not rendered_object("Service")["spec"]["selector"].items() <= labels.items()
