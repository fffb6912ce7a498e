"""Custom resources against their CRDs, as strictly as the API server takes them. `make test-crds` fetches those."""

import os
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from helpers import ROOT
from manifests import ARGO, CUSTOM, OVERLAYS, RENDERED, documents

CRDS = os.environ.get("CRDS")
pytestmark = pytest.mark.skipif(not CRDS, reason="needs CRDs: make test-crds")
OBJECTS = [
    one for overlay in OVERLAYS for one in RENDERED[overlay] if CUSTOM.search(one["apiVersion"])
]
OBJECTS += [*ARGO, *documents(ROOT / "k8s/components/ab/httproute.yaml")]


class Loader(yaml.SafeLoader):
    """Takes a lone `=`, an enumerated value in some CRDs, as text."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@pytest.fixture(scope="module")
def schemas():
    """Return the schema of each API version and kind that CRDS has."""
    found = {}
    for path in Path(CRDS).rglob("*.yaml"):
        for one in yaml.load_all(path.read_text(), Loader):
            if one and one["kind"] == "CustomResourceDefinition":
                spec = one["spec"]
                for version in spec["versions"]:
                    key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                    found[key] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema):
    """Return an OpenAPI schema as a JSON Schema that knows no field but its own."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = dict(schema)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            closed[name] = strict(schema[name])
    if "properties" in schema:
        closed["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_it_is_what_its_definition_says(schemas, one):
    key = one["apiVersion"], one["kind"]
    if key not in schemas:
        pytest.skip(f"no definition of {one['kind']} in {CRDS}")
    validator = Draft202012Validator(schemas[key])
    faults = [
        f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in validator.iter_errors(one)
    ]
    assert faults == []


def test_an_unknown_field_would_be_seen(schemas):
    [rollout] = [one for one in OBJECTS if one["kind"] == "Rollout"]
    steps = rollout["spec"]["strategy"]["canary"]["steps"]
    wrong = rollout | {"spec": rollout["spec"] | {"strategy": {"canary": {"stepz": steps}}}}
    validator = Draft202012Validator(schemas[rollout["apiVersion"], rollout["kind"]])
    [fault] = validator.iter_errors(wrong)
    assert "'stepz' was unexpected" in fault.message
