"""The components in ordered combinations: each renders, and their order makes no difference.

MAX_COMPONENTS limits how many are combined: 2 here, and 4 in `make test-adoption`.
"""

import json
import os
import shutil
from itertools import combinations, permutations

import kubernetes_validate
import pytest
import yaml

from helpers import ROOT
from manifests import (
    ALL_COMPONENTS,
    CUSTOM_GROUPS,
    OLDEST_KUBERNETES,
    assert_restricted,
    check_pod,
    find_object,
    pod_template,
    pods_of,
    render,
    render_with,
    set_components,
)

OVERLAY = "production"

MAX_COMPONENTS = min(int(os.environ.get("MAX_COMPONENTS", 2)), len(ALL_COMPONENTS))

# kubectl renders as many at once, each in a namespace of its own; its time grows faster than these.
CHUNK_SIZE = 20


def list_orders():
    """Return each order of at most MAX_COMPONENTS, and some of all: with another first or last."""
    orders = []
    for size in range(MAX_COMPONENTS + 1):
        orders += permutations(ALL_COMPONENTS, size)
    if len(ALL_COMPONENTS) > MAX_COMPONENTS:
        for name in ALL_COMPONENTS:
            others = [other for other in ALL_COMPONENTS if other != name]
            orders += [(name, *others), (*others, name)]

    return list(dict.fromkeys(orders))


def render_orders(directory, orders):
    """Return the objects of each order of components, by order."""
    shutil.copytree(ROOT / "k8s", directory / "k8s")
    overlays = directory / "k8s/overlays"
    names = {}
    for order in orders:
        name = "-".join(["order", *order])
        names[name] = order
        shutil.copytree(overlays / OVERLAY, overlays / name)
        set_components(directory, name, order, namespace=name)

    rendered = {order: [] for order in orders}
    chunk = overlays / "chunk"
    chunk.mkdir()
    for start in range(0, len(orders), CHUNK_SIZE):
        listed = list(names)[start : start + CHUNK_SIZE]
        resources = [f"../{name}" for name in listed]
        (chunk / "kustomization.yaml").write_text(yaml.safe_dump({"resources": resources}))
        for item in render(chunk):
            rendered[names[item["metadata"].pop("namespace")]].append(item)

    return rendered


def canonical(value):
    """Return a value whose lists are sorted: patches append to lists in the order of components."""
    if isinstance(value, list):
        return sorted(map(canonical, value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}

    return value


def test_order_of_components_makes_no_difference(tmp_path):
    """Each ordered combination renders, and to the same objects as any other order of it."""
    expected = {}
    orders = list_orders()
    for order, objects in render_orders(tmp_path, orders).items():
        assert objects, order
        same_components = expected.setdefault(frozenset(order), canonical(objects))
        assert canonical(objects) == same_components, order

    assert len(orders) >= 2 * len(ALL_COMPONENTS)


SUBSETS = [
    subset
    for size in (0, 1, 2, len(ALL_COMPONENTS))
    for subset in combinations(ALL_COMPONENTS, size)
]


@pytest.mark.parametrize("components", SUBSETS, ids="-".join)
def test_combined_objects_are_valid(components):
    """Every object of a combination is valid, and every pod is restricted."""
    objects = render_with(OVERLAY, *components)
    for item in objects:
        assert item["metadata"]["namespace"] == f"ml-model-{OVERLAY}"
        if not CUSTOM_GROUPS.search(item["apiVersion"]):
            kubernetes_validate.validate(item, OLDEST_KUBERNETES, strict=True)
        for pod in pods_of(item):
            assert_restricted(pod)


@pytest.mark.parametrize("components", SUBSETS, ids="-".join)
def test_check_has_model_of_service(components):
    """In every combination the check reads the model of the service, pulled in the same way."""
    objects = render_with(OVERLAY, *components)
    service = pod_template(find_object(objects, "Deployment"))
    check = check_pod(objects)
    assert ("initContainers" in service) == ("registry" in components)
    assert check.get("initContainers") == service.get("initContainers")

    model_paths = []
    for pod in (service, check):
        [container] = pod["containers"]
        values = {variable["name"]: variable.get("value") for variable in container["env"]}
        model_paths.append(values.get("MODEL_PATH"))
    assert model_paths[0] == model_paths[1]

    for volume in check.get("volumes", []):
        assert volume in service["volumes"]
