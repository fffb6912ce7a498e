"""The component `stream`: consumers of a broker, scaled by KEDA."""

import re

import pytest

from helpers import ROOT
from manifests import (
    DIGEST,
    documents,
    find_object,
    pod_template,
    released_image,
    render_with,
    rendered_object,
)

NAME = "ml-model-stream"

SCALED_OBJECTS = ("scaledobject.yaml", "scaledobject-kafka.yaml")


@pytest.fixture
def stream_objects():
    """Return the objects that the component `stream` adds, by kind."""
    objects = render_with("production", "stream", "monitoring")
    added = {item["kind"]: item for item in objects if item["metadata"]["name"] == NAME}
    assert added.keys() == {
        "Deployment",
        "NetworkPolicy",
        "ScaledObject",
        "ServiceAccount",
        "TriggerAuthentication",
    }
    return added


@pytest.fixture
def stream_container(stream_objects):
    """Return the one container of a consumer's pod."""
    [container] = pod_template(stream_objects["Deployment"])["containers"]
    return container


def test_consumer_gets_addresses_from_secret(stream_container):
    """Both addresses come from the secret that the document creates, and are the arguments."""
    assert re.fullmatch(rf"{released_image()}@{DIGEST.pattern}", stream_container["image"])
    assert stream_container["args"] == ["$(INPUT)", "$(OUTPUT)"]
    assert "command" not in stream_container
    variables = {variable["name"]: variable for variable in stream_container["env"]}
    text = (ROOT / "docs/batch.md").read_text()
    assert f"create secret generic {NAME} " in text
    for name in ("INPUT", "OUTPUT"):
        secret = variables[name]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": NAME, "key": name.lower()}
        assert f"--from-literal={secret['key']}=" in text


def test_probes_and_scrapes_reach_metrics_port(stream_objects, stream_container):
    """The liveness probe, Prometheus and the network policy use the port of the metrics."""
    [port] = stream_container["ports"]
    variables = {variable["name"]: variable.get("value") for variable in stream_container["env"]}
    assert variables["METRICS_PORT"] == str(port["containerPort"])
    for probe in ("startupProbe", "livenessProbe"):
        get = stream_container[probe]["httpGet"]
        assert get == {"path": "/healthz", "port": port["name"]}
    assert "readinessProbe" not in stream_container  # nothing is sent to a consumer

    [rule] = stream_objects["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": port["name"]}]
    monitor = rendered_object("PodMonitor")["spec"]
    [selector] = monitor["selector"]["matchExpressions"]
    labels = stream_objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels[selector["key"]] in selector["values"]
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]


def test_selectors_match_consumers_only(stream_objects):
    """The selectors match the consumers' pods, and those of the service do not."""
    deployment = stream_objects["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    policy = stream_objects["NetworkPolicy"]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= labels
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    account = pod_template(stream_objects["Deployment"])["serviceAccountName"]
    assert account == stream_objects["ServiceAccount"]["metadata"]["name"]
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
        spec = rendered_object(kind)["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert not selector.get("matchLabels", selector).items() <= labels


@pytest.mark.parametrize("name", SCALED_OBJECTS)
def test_lag_scales_consumers(stream_objects, name):
    """KEDA scales the Deployment by the lag, for Redis or Kafka, and owns its replicas."""
    [scaled] = documents(ROOT / "k8s/components/stream" / name)
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"name": stream_objects["Deployment"]["metadata"]["name"]}
    assert "replicas" not in stream_objects["Deployment"]["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    [trigger] = spec["triggers"]
    authentication = stream_objects["TriggerAuthentication"]
    assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())

    objects = [item for item in SCALED_OBJECTS if item != name]
    [other] = documents(ROOT / "k8s/components/stream" / objects[0])
    different = {key for key in spec if spec[key] != other["spec"][key]}
    assert different == {"triggers"}


def test_document_names_scaling(stream_objects):
    """The document names the lag for each consumer, their number, and KEDA's version."""
    text = " ".join((ROOT / "docs/batch.md").read_text().split())
    for name in SCALED_OBJECTS:
        [scaled] = documents(ROOT / "k8s/components/stream" / name)
        metadata = scaled["spec"]["triggers"][0]["metadata"]
        lag = int(metadata.get("lagCount") or metadata["lagThreshold"])
        assert f"one more for each {lag:,} unread" in text
        assert scaled["spec"]["maxReplicaCount"] == 10
    assert "up to ten" in text
    keda = re.search(r"kedacore/keda:v(\d+\.\d+)", (ROOT / "Makefile").read_text())[1]
    assert f"[KEDA](https://keda.sh) {keda} or newer" in text


def test_overlay_without_component_has_no_consumer():
    """Without the component nothing of it is rendered."""
    objects = render_with("production", "monitoring")
    assert NAME not in {item["metadata"]["name"] for item in objects}
    assert find_object(objects, "Deployment")
