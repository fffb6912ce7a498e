"""The Rollout: its pods, its analysis, and the check as its last step."""

from manifests import find_object, render_with, rendered_object


def test_check_is_last_step_of_rollout():
    """Where a Rollout makes the pods, it runs the check when all are new, and no hook is left."""
    objects = render_with("production", "rollout")
    assert not [item for item in objects if item["kind"] == "Job"]
    assert not [text for text in map(str, objects) if "argocd.argoproj.io/hook" in text]

    steps = find_object(objects, "Rollout")["spec"]["strategy"]["canary"]["steps"]
    last_weight, check = steps[-2:]
    assert last_weight == {"setWeight": 100}
    [template] = check["analysis"]["templates"]
    assert find_object(objects, "AnalysisTemplate", template["templateName"])
    assert template["templateName"] == "ml-model-check"


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
    required = [arg["name"] for arg in template["spec"]["args"] if "value" not in arg]
    analyses = [step["analysis"] for step in canary["steps"] if "analysis" in step]
    *partial, _ = analyses
    assert len(partial) == 2
    for analysis in partial:
        assert analysis["templates"] == [{"templateName": template["metadata"]["name"]}]
        assert [argument["name"] for argument in analysis["args"]] == required

    roles = {canary[f"{role}Metadata"]["labels"]["role"] for role in ("canary", "stable")}
    assert roles == {"canary", "stable"}
