"""The GitHub workflows: pinned actions, least permissions, the order of a release."""

import re
import shlex

from helpers import ROOT
from manifests import (
    DOCKERFILE,
    IMAGES,
    MAKEFILE,
    PROJECT,
    deployment_texts,
    workflow_steps,
    workflows,
)

WRITE_PERMISSIONS = {
    ("codeql.yml", "analyze"): {"security-events"},
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
    "test-browser",
    "test-clients",
    "test-cluster",
    "test-crds",
    "test-monitoring",
    "test-proxies",
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


def list_step_names(steps):
    """Return the action of each step, or the first line of its script."""
    return [step.get("uses", step.get("run", "")).split("@")[0].split("\n")[0] for step in steps]


def test_release_scans_and_signs_before_pinning():
    """A release is scanned, signed and verified before any overlay names it."""
    jobs = workflows()["release.yml"]["jobs"]
    steps = jobs["image"]["steps"]
    names = list_step_names(steps)
    push = names.index("docker/build-push-action")
    scan = names.index("anchore/scan-action")
    sbom = names.index("anchore/sbom-action")
    sign = len(steps) - 1
    assert push < scan < sbom < sign
    assert steps[scan]["with"]["severity-cutoff"] == "high"
    assert "fail-build" not in steps[scan]["with"]

    commands = [line.split(" ")[:3] for line in steps[sign]["run"].splitlines()]
    assert commands[:2] == [["cosign", "sign", "--yes"], ["cosign", "attest", "--yes"]]
    assert commands[2][:2] == ["make", "verify"]
    assert steps[sign]["env"]["SBOM"] == steps[sbom]["with"]["output-file"]
    assert jobs["pin"]["needs"] == "image"
    assert not any("latest" in text for text in deployment_texts(ROOT).values())


def test_release_builds_every_image():
    """Every image is built, and its signed digest goes from the matrix to the job `pin`."""
    jobs = workflows()["release.yml"]["jobs"]
    targets = [item["target"] for item in jobs["image"]["strategy"]["matrix"]["include"]]
    assert targets == list(IMAGES)
    outputs = {target: f"${{{{ steps.sign.outputs.{target} }}}}" for target in targets}
    assert jobs["image"]["outputs"] == outputs
    assert jobs["image"]["steps"][-1]["id"] == "sign"

    pinned = jobs["pin"]["steps"][-1]
    for target in targets:
        output = f"${{{{ needs.image.outputs.{target} }}}}"
        assert pinned["env"][target.upper()] == output
        assert f'TARGET={target} DIGEST="${target.upper()}"' in pinned["run"]


def test_release_is_reproducible():
    """Nothing in an image has the time of its build, and a tag keeps it in the registry."""
    steps = workflows()["release.yml"]["jobs"]["image"]["steps"]
    step = steps[list_step_names(steps).index("docker/build-push-action")]
    assert step["env"] == {"SOURCE_DATE_EPOCH": "${{ steps.commit.outputs.epoch }}"}
    build = step["with"]
    assert build["outputs"] == "type=image,push=true,rewrite-timestamp=true"
    # Both have times in them.
    assert build["provenance"] is False
    assert build["sbom"] is False
    assert "sha-${{ github.sha }}${{ matrix.suffix }}" in build["tags"]

    labels = dict(line.split("=", 1) for line in build["labels"].splitlines())
    names = {name.removeprefix("org.opencontainers.image.") for name in labels}
    assert names == {"source", "revision", "version", "licenses"}
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]


def test_scan_covers_every_image():
    """Each week the images that production runs are scanned as strictly as a release."""
    scan = workflows()["scan.yml"]
    job = scan["jobs"]["production"]
    assert scan["env"] == workflows()["release.yml"]["env"]
    assert job["strategy"]["matrix"]["target"] == list(IMAGES)
    release_steps = workflows()["release.yml"]["jobs"]["image"]["steps"]
    settings = []
    for steps in (release_steps, job["steps"]):
        step = steps[list_step_names(steps).index("anchore/scan-action")]
        settings.append({key: step["with"][key] for key in ("severity-cutoff", "only-fixed")})
    assert settings[0] == settings[1]
    zeros = re.search(r"^PLACEHOLDER := (\S+)$", MAKEFILE, re.MULTILINE)[1]
    assert job["steps"][-1]["if"] == f"steps.production.outputs.digest != '{zeros}'"


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
        for line in step.get("run", "").replace("\\\n", "").splitlines()
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
