"""docs/deployment.md: the canary and the versions, compared with the manifests."""

import re

from documentation import DOCUMENTS, FENCE, flat_text, quoted, table
from helpers import ROOT
from manifests import DIGEST, OLDEST_KUBERNETES, rendered_object


def test_canary_limits_match_analysis():
    """The table of the canary has the limits of the AnalysisTemplate."""
    metrics = rendered_object("AnalysisTemplate")["spec"]["metrics"]
    rows = table("deployment.md", "Canary")
    for (_, limit, _), metric in zip(rows, metrics, strict=True):
        assert metric["successCondition"] == f"len(result) > 0 && result[0] < {limit}"
        assert metric["failureCondition"] == f"len(result) > 0 && result[0] >= {limit}"
        assert metric["interval"] == "1m"
        assert metric["count"] == 10
        assert metric["failureLimit"] == 0


def test_canary_steps_match_rollout():
    """The canary gets a fifth of the pods, then half of them, then all."""
    steps = rendered_object("Rollout")["spec"]["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps if "setWeight" in step] == [20, 50, 100]
    assert "a fifth of them with the new version, then half, then all" in flat_text("deployment.md")


def test_rollback_window_matches_rollout():
    """A Rollout goes back without a canary to one of as many versions as it keeps."""
    spec = rendered_object("Rollout")["spec"]
    assert spec["rollbackWindow"] == {"revisions": spec["revisionHistoryLimit"]}
    assert spec["revisionHistoryLimit"] == 5
    assert "one of its last five versions at once" in flat_text("deployment.md")


def test_files_to_edit_exist():
    """The table of what an owner edits names files, each once."""
    rows = table("deployment.md", "Adopt the repository")
    names = [name for _, cell in rows for name in quoted(cell)]
    assert len(names) == len(set(names))
    assert all((ROOT / name).is_file() for name in names)
    # Its edits are made and tested by this script.
    script = (ROOT / ".ci/adopt.sh").read_text()
    assert "sed -n '/^## Adopt/,/^## Connect/p' docs/deployment.md" in script


def test_oldest_kubernetes_is_named():
    """The document names the oldest Kubernetes that the manifests are valid for."""
    assert f"Kubernetes {OLDEST_KUBERNETES} or newer" in DOCUMENTS["deployment.md"]


def test_promotion_diff_changes_one_digest():
    """The diff of a promotion replaces the digest of the production overlay."""
    [diff] = [
        text for language, text in FENCE.findall(DOCUMENTS["deployment.md"]) if language == "diff"
    ]
    old_file, new_file, removed, added = diff.splitlines()
    assert old_file == "--- a/k8s/overlays/production/kustomization.yaml"
    assert new_file == "+++ b/k8s/overlays/production/kustomization.yaml"
    assert re.fullmatch(rf"-    digest: {DIGEST.pattern}", removed)
    assert re.fullmatch(rf"\+    digest: {DIGEST.pattern}", added)
