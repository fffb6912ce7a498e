"""Custom resources are valid by their definitions, which `make test-crds` fetches."""

import os
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from manifests import (
    ALL_COMPONENTS,
    CUSTOM_GROUPS,
    OVERLAYS,
    argo_objects,
    find_object,
    render_with,
    rendered_overlay,
)

CRDS = os.environ.get("CRDS")

pytestmark = pytest.mark.skipif(not CRDS, reason="needs CRDs: make test-crds")


def list_custom_objects():
    """Return every custom resource that is or can be deployed."""
    objects = render_with("production", *ALL_COMPONENTS)
    for overlay in OVERLAYS:
        objects = [*objects, *rendered_overlay(overlay)]
    return [item for item in objects + argo_objects() if CUSTOM_GROUPS.search(item["apiVersion"])]


class CrdLoader(yaml.SafeLoader):
    """Loads a lone `=`, an enumerated value in some definitions, as text."""


CrdLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@pytest.fixture(scope="module")
def schemas():
    """Return the schema of each API version and kind below CRDS."""
    schemas = {}
    for path in Path(CRDS).rglob("*.yaml"):
        for item in yaml.load_all(path.read_text(), CrdLoader):
            if item and item["kind"] == "CustomResourceDefinition":
                spec = item["spec"]
                for version in spec["versions"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    schemas[key] = close_schema(version["schema"]["openAPIV3Schema"])

    return schemas


def close_schema(schema):
    """Return an OpenAPI schema as a JSON Schema that allows no other field."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}

    closed = dict(schema)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            closed[name] = close_schema(schema[name])

    if "properties" in schema:
        properties = schema["properties"].items()
        closed["properties"] = {name: close_schema(value) for name, value in properties}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)

    return closed


# Rendered at import only when the tests run, because the objects are the test's parameters.
@pytest.mark.parametrize(
    "item",
    list_custom_objects() if CRDS else [],
    ids=lambda item: f"{item['kind']} {item['metadata']['name']}",
)
def test_custom_resources_are_valid(schemas, item):
    """Every custom resource is valid by its definition."""
    key = (item["apiVersion"], item["kind"])
    if key not in schemas:
        pytest.skip(f"no definition of {item['kind']} in {CRDS}")

    errors = Draft202012Validator(schemas[key]).iter_errors(item)
    assert [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors] == []


def test_unknown_fields_are_rejected(schemas):
    """The validation sees a field that the definition does not have."""
    rollout = find_object(render_with("production", "rollout"), "Rollout")
    steps = rollout["spec"]["strategy"]["canary"]["steps"]
    wrong = rollout | {"spec": rollout["spec"] | {"strategy": {"canary": {"stepz": steps}}}}
    validator = Draft202012Validator(schemas[rollout["apiVersion"], rollout["kind"]])
    [error] = validator.iter_errors(wrong)
    assert "'stepz' was unexpected" in error.message
