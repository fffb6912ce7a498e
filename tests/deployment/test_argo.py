"""Argo CD: the project allows what the overlays render, and the Applications belong to it."""

from manifests import ALL_COMPONENTS, OVERLAYS, argo_objects, render_with, rendered_overlay


def list_applications():
    return [item for item in argo_objects() if item["kind"] == "Application"]


def list_kinds(objects):
    return {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in objects}


def test_namespaces_enforce_restricted_standard():
    """Each namespace that Argo CD creates enforces the restricted standard."""
    for application in list_applications():
        labels = application["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]
        assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_applications_compare_on_server():
    """The API server compares, because what it sets by default is no difference."""
    for application in list_applications():
        annotations = application["metadata"]["annotations"]
        assert annotations["argocd.argoproj.io/compare-options"] == "ServerSideDiff=true"


def test_retries_take_newest_commit():
    """A retry takes the newest commit, so that a revert does not wait for the failed one."""
    for application in list_applications():
        assert application["spec"]["syncPolicy"]["retry"]["refresh"] is True


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
    allowed = {(item["group"], item["kind"]) for item in project["namespaceResourceWhitelist"]}
    used = set()
    for overlay in OVERLAYS:
        assert list_kinds(rendered_overlay(overlay)) <= allowed
        # A canary makes an AnalysisTemplate of the check's Job.
        without_canary = [name for name in ALL_COMPONENTS if name != "rollout"]
        used |= list_kinds(render_with(overlay, *without_canary))
        used |= list_kinds(render_with(overlay, *ALL_COMPONENTS))

    assert allowed == used
    assert project["clusterResourceWhitelist"] == [
        {"group": "", "kind": "Namespace", "name": "ml-model-*"}
    ]
