"""The manifests, as kustomize renders them, agree with the program and with each other."""

import re

import kubernetes_validate
import pytest

from app import create_app
from helpers import ROOT
from manifests import (
    ALL_COMPONENTS,
    CUSTOM_GROUPS,
    DIGEST,
    MAKEFILE,
    OLDEST_KUBERNETES,
    OVERLAYS,
    argo_objects,
    assert_restricted,
    check_pod,
    container_variable,
    documents,
    find_object,
    gunicorn_port,
    gunicorn_settings,
    instructions,
    pods_of,
    released_image,
    render_with,
    rendered_object,
    rendered_overlay,
    service_container,
    service_pod,
    service_settings,
)
from serving.api.routing import ADMIN_PATHS

# What a person applies, beside the Applications, or chooses between: docs/ says when.
CHOSEN_BY_HAND = (
    "components/batch/persistentvolumeclaim.yaml",
    "components/stream/scaledobject-kafka.yaml",
    "components/stream/scaledobject.yaml",
)

PROBES = ("startup", "readiness", "liveness")


def list_get_routes():
    rules = create_app().url_map.iter_rules()
    return {rule.rule for rule in rules if "GET" in rule.methods}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rendered_objects_are_valid(overlay):
    """Every rendered object is in its namespace and valid for the oldest supported Kubernetes."""
    for item in rendered_overlay(overlay):
        assert item["metadata"]["namespace"] == f"ml-model-{overlay}"
        assert re.fullmatch("ml-model(-[a-z]+)*", item["metadata"]["name"])
        if not CUSTOM_GROUPS.search(item["apiVersion"]):  # test_crds.py validates those
            kubernetes_validate.validate(item, OLDEST_KUBERNETES, strict=True)


def test_no_manifest_is_orphaned():
    """Every file below k8s/ is the root of a tree or is listed by a kustomization."""
    # The roots, and the components that docs/ tells the owner to add.
    roots = [ROOT / "k8s" / name for name in CHOSEN_BY_HAND]
    listed = {*roots, *(ROOT / "k8s/components").iterdir(), *(ROOT / "k8s/argocd").iterdir()}
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
    check = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ml-model-check"}}}
    to_http, to_metrics = spec["ingress"]
    gateway, second = to_http["from"]
    [prometheus] = to_metrics["from"]
    assert second == check
    assert to_http["ports"] == [{"port": "http"}]
    assert to_metrics["ports"] == [{"port": "metrics"}]
    for caller in (gateway, prometheus):  # whose names are the owner's
        [label] = caller["namespaceSelector"]["matchLabels"]
        assert label == "kubernetes.io/metadata.name"
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}

    check_policy = rendered_object("NetworkPolicy", name="ml-model-check")["spec"]
    [dns] = spec["egress"]
    to_service = {"to": [{"podSelector": spec["podSelector"]}], "ports": [{"port": "http"}]}
    assert check_policy["egress"] == [to_service, dns]
    assert "ingress" not in check_policy
    assert set(check_policy["policyTypes"]) == {"Ingress", "Egress"}
    assert check["podSelector"] == check_policy["podSelector"]


def check_template(overlay):
    """Return the template of the check's pod, with its labels."""
    if overlay == "production":
        template = rendered_object("AnalysisTemplate", overlay, "ml-model-check")
        [metric] = template["spec"]["metrics"]
        return metric["provider"]["job"]["spec"]["template"]

    return rendered_object("Job", overlay, "ml-model-check")["spec"]["template"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_check_asks_service(overlay):
    """The check runs the smoke test against the Service, whose policy admits it."""
    template = check_template(overlay)
    service = rendered_object("Service", overlay)
    [container] = template["spec"]["containers"]
    url = f"http://{service['metadata']['name']}"
    assert container["command"] == ["python", "-m", "serving.smoke_test", url]
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert (ROOT / "serving/smoke_test.py").exists()
    assert container["env"] == [container_variable("API_KEYS")]

    labels = template["metadata"]["labels"].items()
    policy = rendered_object("NetworkPolicy", overlay, "ml-model-check")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert not service["spec"]["selector"].items() <= labels


def test_check_runs_after_each_sync():
    """Where a Deployment makes the pods, the check is a hook after each sync."""
    job = rendered_object("Job", "staging", "ml-model-check")
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "PostSync"


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


def test_image_names_numeric_user():
    """The image names a user by number, which is not root, so that no pod has to name one."""
    [user] = set(instructions("USER"))
    uid, gid = map(int, user.split(":"))
    assert min(uid, gid) > 9999


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("components", [None, ALL_COMPONENTS], ids=["own", "all"])
def test_pods_meet_restricted_standard(overlay, components):
    """Every pod meets the restricted standard that its namespace enforces."""
    objects = rendered_overlay(overlay) if components is None else render_with(overlay, *components)
    pods = [pod for item in objects for pod in pods_of(item)]
    assert len(pods) >= 2
    for pod in pods:
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

    hash_labels = {"staging": "pod-template-hash", "production": "rollouts-pod-template-hash"}
    for spread in spreads:
        assert spread["matchLabelKeys"] == [hash_labels.get(overlay, "pod-template-hash")]

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


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_pin_released_images(overlay):
    """Every pod runs an image, named by digest, that the release workflow pushes."""
    for components in (None, ALL_COMPONENTS):
        objects = render_with(overlay, *components) if components else rendered_overlay(overlay)
        for pod in [pod for item in objects for pod in pods_of(item)]:
            for container in pod["containers"] + pod.get("initContainers", []):
                name, _, digest = container["image"].partition("@")
                assert DIGEST.fullmatch(digest)
                assert name == released_image()

        [service] = find_object(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
        [check] = check_pod(objects)["containers"]
        assert service["image"] == check["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_sets_only_known_variables(overlay):
    """The pod sets only environment variables that the program reads."""
    names = {variable["name"] for variable in service_container(overlay)["env"]}
    assert names <= service_settings().keys()
