"""Argo CD: the project allows what the overlays render, and the Applications belong to it."""

from helpers import ROOT
from manifests import OVERLAYS, argo_objects, documents, rendered_overlay


def list_applications():
    return [item for item in argo_objects() if item["kind"] == "Application"]


def test_namespaces_enforce_restricted_standard():
    """Each namespace that Argo CD creates enforces the restricted standard."""
    for application in list_applications():
        labels = application["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]
        assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_applications_belong_to_project():
    """Each overlay has an Application, from a source and to a namespace that the project allows."""
    [project] = [item["spec"] for item in argo_objects() if item["kind"] == "AppProject"]
    applications = {item["metadata"]["name"]: item["spec"] for item in list_applications()}
    assert applications.keys() == {f"ml-model-{overlay}" for overlay in OVERLAYS}

    for name, spec in applications.items():
        overlay = spec["destination"]["namespace"].removeprefix("ml-model-")
        assert spec["project"] == "ml-model"
        assert spec["source"]["path"] == f"k8s/overlays/{overlay}"
        assert spec["source"]["repoURL"] in project["sourceRepos"]
        assert spec["destination"] in project["destinations"]
        assert spec["destination"]["namespace"] == name


def test_project_allows_rendered_kinds_only():
    """The project allows the kinds that are rendered, and no other."""
    [project] = [item["spec"] for item in argo_objects() if item["kind"] == "AppProject"]
    objects = [item for overlay in OVERLAYS for item in rendered_overlay(overlay)]
    objects += documents(ROOT / "k8s/components/ab/httproute.yaml")
    for path in (ROOT / "k8s/components/batch").glob("*.yaml"):
        objects += [item for item in documents(path) if item["kind"] != "Component"]

    rendered = {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in objects}
    allowed = {(item["group"], item["kind"]) for item in project["namespaceResourceWhitelist"]}
    assert allowed == rendered
    assert project["clusterResourceWhitelist"] == [
        {"group": "", "kind": "Namespace", "name": "ml-model-*"}
    ]
