"""The manifests, as kustomize renders them, agree with the program and with each other."""

import re

import kubernetes_validate
import pytest

from app import create_app
from helpers import ROOT
from manifests import (
    CUSTOM_GROUPS,
    DIGEST,
    MAKEFILE,
    OLDEST_KUBERNETES,
    OVERLAYS,
    argo_objects,
    assert_restricted,
    container_variable,
    documents,
    gunicorn_port,
    gunicorn_settings,
    instructions,
    pod_template,
    released_image,
    rendered_object,
    rendered_overlay,
    service_container,
    service_pod,
    service_settings,
)
from serving.api.routing import ADMIN_PATHS

PROBES = ("startup", "readiness", "liveness")


def list_get_routes():
    rules = create_app().url_map.iter_rules()
    return {rule.rule for rule in rules if "GET" in rule.methods}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rendered_objects_are_valid(overlay):
    """Every rendered object is in its namespace and valid for the oldest supported Kubernetes."""
    for item in rendered_overlay(overlay):
        assert item["metadata"]["namespace"] == f"ml-model-{overlay}"
        assert re.fullmatch("ml-model(-check|-canary|-dashboard)?", item["metadata"]["name"])
        if not CUSTOM_GROUPS.search(item["apiVersion"]):  # test_crds.py validates those
            kubernetes_validate.validate(item, OLDEST_KUBERNETES, strict=True)


def test_no_manifest_is_orphaned():
    """Every file below k8s/ is the root of a tree or is listed by a kustomization."""
    # The roots, and the components that docs/ tells the owner to add.
    roots = ("argocd", "argocd/experiment.yaml")
    optional = ("components/ab", "components/batch", "components/registry")
    listed = {ROOT / "k8s" / name for name in (*roots, *optional)}
    for item in argo_objects():
        if item["kind"] == "Application":
            listed.add(ROOT / item["spec"]["source"]["path"])

    for path in (ROOT / "k8s").rglob("kustomization.yaml"):
        [kustomization] = documents(path)
        names = kustomization.get("resources", []) + kustomization.get("components", [])
        names += [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
        listed |= {(path.parent / name).resolve() for name in names}

    existing = set()
    for path in (ROOT / "k8s").rglob("*.yaml"):
        is_kustomization = path.name == "kustomization.yaml"
        existing.add(path.parent if is_kustomization else path)
    assert listed == existing


def test_all_files_agree_on_ports():
    """The port of gunicorn is the port of the image, the container, the Service and the probes."""
    container = service_container()
    assert instructions("EXPOSE") == [str(gunicorn_port())]

    http, metrics = container["ports"]
    assert http == {"name": "http", "containerPort": gunicorn_port()}
    [service_port] = rendered_object("Service")["spec"]["ports"]
    assert service_port["targetPort"] == http["name"]

    metrics_port = int(container_variable("METRICS_PORT")["value"])
    assert metrics == {"name": "metrics", "containerPort": metrics_port}
    [endpoint] = rendered_object("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == metrics["name"]
    assert endpoint["path"] in ADMIN_PATHS

    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in PROBES} == {"http"}
    assert f"http://localhost:{gunicorn_port()}" in MAKEFILE


def test_network_policy_admits_only_known_callers():
    """The network policy admits the gateway, the check and Prometheus, and nobody else."""
    spec = rendered_object("NetworkPolicy")["spec"]
    gateway, prometheus = (
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
        for name in ("gateway", "monitoring")
    )
    check = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ml-model-check"}}}
    assert spec["ingress"] == [
        {"from": [gateway, check], "ports": [{"port": "http"}]},
        {"from": [prometheus], "ports": [{"port": "metrics"}]},
    ]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}

    check_policy = rendered_object("NetworkPolicy", name="ml-model-check")["spec"]
    [dns] = spec["egress"]
    to_service = {"to": [{"podSelector": spec["podSelector"]}], "ports": [{"port": "http"}]}
    assert check_policy["egress"] == [to_service, dns]
    assert "ingress" not in check_policy
    assert set(check_policy["policyTypes"]) == {"Ingress", "Egress"}

    job = rendered_object("Job", name="ml-model-check")
    labels = job["spec"]["template"]["metadata"]["labels"].items()
    assert check_policy["podSelector"]["matchLabels"].items() <= labels
    assert check["podSelector"] == check_policy["podSelector"]
    assert not rendered_object("Service")["spec"]["selector"].items() <= labels


def test_check_runs_after_each_sync():
    """A Job runs the smoke test against the Service after each sync."""
    job = rendered_object("Job", name="ml-model-check")
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "PostSync"

    [container] = pod_template(job)["containers"]
    service = rendered_object("Service")
    url = f"http://{service['metadata']['name']}"
    assert container["command"] == ["python", "-m", "serving.smoke_test", url]
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert (ROOT / "serving/smoke_test.py").exists()
    assert container["env"] == [container_variable("API_KEYS")]


def test_probes_call_existing_routes():
    """The probes and the image's HEALTHCHECK call routes that exist."""
    container = service_container()
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in PROBES}
    routes = list_get_routes()
    assert set(paths.values()) <= routes
    assert paths["readiness"] == "/readyz"
    assert paths["liveness"] == "/healthz"

    [healthcheck] = instructions("HEALTHCHECK")
    assert re.search("'(/[a-z]+)'", healthcheck)[1] in routes


def test_image_and_pod_share_one_user():
    """Image and pod name the same user, by number, and it is not root."""
    [user] = set(instructions("USER"))
    uid, gid = map(int, user.split(":"))
    context = service_pod()["securityContext"]
    assert context["runAsUser"] == uid
    assert context["runAsGroup"] == gid
    assert context["runAsNonRoot"] is True
    assert uid > 9999


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_meet_restricted_standard(kind):
    """Every pod meets the restricted standard that its namespace enforces."""
    [pod] = [pod_template(item) for item in rendered_overlay("production") if item["kind"] == kind]
    assert_restricted(pod)


def test_grace_period_covers_drain():
    """The grace period covers the preStop wait, the graceful timeout and 5 seconds."""
    container = service_container()
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait >= container["readinessProbe"]["periodSeconds"]

    drained_after = wait + gunicorn_settings()["graceful_timeout"]
    assert drained_after + 5 <= service_pod()["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_match_pod_labels(overlay):
    """Every selector matches the pod's labels."""
    deployment = rendered_object("Deployment", overlay)
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    spreads = service_pod(overlay)["topologySpreadConstraints"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        rendered_object("Service", overlay)["spec"]["selector"],
        rendered_object("PodDisruptionBudget", overlay)["spec"]["selector"]["matchLabels"],
        rendered_object("NetworkPolicy", overlay)["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in spreads),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)

    account = service_pod(overlay)["serviceAccountName"]
    assert account == rendered_object("ServiceAccount", overlay)["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_autoscaler_owns_replicas(overlay):
    """The autoscaler scales what makes the pods, and nothing else sets a number of replicas."""
    scaled_kind = "Rollout" if overlay == "production" else "Deployment"
    scaled = rendered_object(scaled_kind, overlay)
    autoscaler = rendered_object("HorizontalPodAutoscaler", overlay)["spec"]
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": scaled["apiVersion"],
        "kind": scaled["kind"],
        "name": scaled["metadata"]["name"],
    }
    assert 2 <= autoscaler["minReplicas"] <= autoscaler["maxReplicas"]
    assert "replicas" not in scaled["spec"]


def test_rollout_uses_deployment_template():
    """The Rollout makes its pods from the template of a Deployment that makes none."""
    rollout = rendered_object("Rollout")
    deployment = rendered_object("Deployment")
    assert rollout["spec"]["workloadRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert deployment["spec"]["replicas"] == 0
    assert "template" not in rollout["spec"]  # so that there is one image to pin
    assert rollout["spec"]["selector"] == deployment["spec"]["selector"]
    assert rollout["spec"]["minReadySeconds"] == deployment["spec"]["minReadySeconds"]


def test_rollout_runs_analysis_twice():
    """The Rollout runs the AnalysisTemplate after both partial steps, with its arguments."""
    canary = rendered_object("Rollout")["spec"]["strategy"]["canary"]
    template = rendered_object("AnalysisTemplate")
    argument_names = [argument["name"] for argument in template["spec"]["args"]]
    analyses = [step["analysis"] for step in canary["steps"] if "analysis" in step]
    assert len(analyses) == 2
    for analysis in analyses:
        assert analysis["templates"] == [{"templateName": template["metadata"]["name"]}]
        assert [argument["name"] for argument in analysis["args"]] == argument_names

    roles = {canary[f"{role}Metadata"]["labels"]["role"] for role in ("canary", "stable")}
    assert roles == {"canary", "stable"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_pin_released_image(overlay):
    """Service and check run one image, named by digest, which the release workflow pushes."""
    pods = [
        pod_template(item)
        for item in rendered_overlay(overlay)
        if "template" in item.get("spec", {})
    ]
    assert len(pods) == 2
    [image] = {container["image"] for pod in pods for container in pod["containers"]}
    name, _, digest = image.partition("@")
    assert DIGEST.fullmatch(digest)
    assert name == released_image()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_sets_only_known_variables(overlay):
    """The pod sets only environment variables that the program reads."""
    names = {variable["name"] for variable in service_container(overlay)["env"]}
    assert names <= service_settings().keys()
