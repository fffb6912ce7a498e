"""The GitHub workflows: pinned actions, least permissions, the order of a release."""

import re
import shlex

from helpers import ROOT
from manifests import DOCKERFILE, MAKEFILE, PROJECT, deployment_texts, workflow_steps, workflows

WRITE_PERMISSIONS = {
    ("release.yml", "image"): {"packages", "id-token"},
    ("release.yml", "pin"): {"contents"},
    ("promote.yml", "pull-request"): {"contents", "pull-requests"},
}

CI_TASKS = {
    "image-test",
    "lint",
    "pin",
    "promote",
    "test",
    "test-adoption",
    "test-batch",
    "test-clients",
    "test-crds",
    "test-monitoring",
    "test-registry",
    "test-swap",
    "verify",
}


def test_actions_are_pinned_by_commit():
    """Every action is pinned by commit, with its version as a comment."""
    for file in workflows():
        for line in (ROOT / ".github/workflows" / file).read_text().splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_jobs_have_least_permissions():
    """No job has more permissions than it needs, or no time limit."""
    for file, workflow in workflows().items():
        assert workflow["permissions"] == {}
        assert "concurrency" in workflow
        for name, job in workflow["jobs"].items():
            assert "uses" in job or job["timeout-minutes"] <= 30
            writes = {scope for scope, access in job["permissions"].items() if access == "write"}
            assert writes == WRITE_PERMISSIONS.get((file, name), set())


def test_steps_handle_secrets_safely():
    """No checkout keeps its token, no expression is part of a command, and CI has no secret."""
    for where, step in workflow_steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where
        # Text from outside must not become part of a command.
        assert "${{" not in step.get("run", ""), where

    assert "secrets." not in (ROOT / ".github/workflows/ci.yml").read_text()


def test_release_scans_and_signs_before_pinning():
    """A release is scanned, signed and verified before any overlay names it."""
    steps = workflows()["release.yml"]["jobs"]["image"]["steps"]
    names = [step.get("uses", step.get("run", "")).split("@")[0].split("\n")[0] for step in steps]
    push = names.index("docker/build-push-action")
    scan = names.index("anchore/scan-action")
    sign = len(steps) - 1
    assert push < scan < sign

    build = steps[push]["with"]
    assert build["sbom"] is True
    assert build["provenance"] == "mode=max"
    assert "push-by-digest=true" in build["outputs"]
    assert "tags" not in build
    assert steps[scan]["with"]["severity-cutoff"] == "high"
    assert "fail-build" not in steps[scan]["with"]

    first, second = steps[sign]["run"].splitlines()
    assert first.startswith("cosign sign --yes")
    assert second.startswith("make verify")
    assert workflows()["release.yml"]["jobs"]["pin"]["needs"] == "image"
    assert not any("latest" in text for text in deployment_texts(ROOT).values())


def test_pinned_digest_starts_no_release():
    """A commit that only moves a digest does not start another release."""
    trigger = workflows()["release.yml"][True]  # YAML reads the key `on` as true
    assert trigger == {"push": {"branches": ["main"], "paths-ignore": ["k8s/overlays/**"]}}


def test_ci_runs_make_tasks():
    """CI runs the tasks that a person runs."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    commands = [
        shlex.split(line)
        for _, step in workflow_steps()
        for line in step.get("run", "").splitlines()
    ]
    used = {words[words.index("make") + 1] for words in commands if "make" in words}
    assert used == CI_TASKS
    assert used <= targets


def test_python_versions_agree():
    """The oldest Python and the shipped Python are the same in every file."""
    versions = workflows()["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    oldest = versions[0]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"--python-version {oldest} " in MAKEFILE
    assert f"sys.version_info >= ({oldest.replace('.', ', ')})" in MAKEFILE

    shipped = re.search(r"python:([0-9.]+)-slim", DOCKERFILE)[1]
    used = {
        step["with"]["python-version"]
        for _, step in workflow_steps()
        if "python-version" in step.get("with", {})
    }
    assert used - {"${{ matrix.python }}"} == {shipped}
    assert shipped in versions
