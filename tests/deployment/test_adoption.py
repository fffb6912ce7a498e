"""The tasks that edit the manifests: adopt, pin, promote, digest."""

import re

import pytest

from manifests import (
    DIGEST,
    OVERLAYS,
    deployment_texts,
    make,
    pod_template,
    render,
)

PRODUCTION = "k8s/overlays/production/kustomization.yaml"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pin_changes_one_line(deployment_copy, overlay):
    """A release changes one line, and every pod runs the new digest."""
    digest = f"sha256:{'1a' * 32}"
    before = deployment_texts(deployment_copy)
    assert make(deployment_copy, "pin", f"OVERLAY={overlay}", f"DIGEST={digest}").returncode == 0

    changed = f"k8s/overlays/{overlay}/kustomization.yaml"
    expected, n_changes = DIGEST.subn(digest, before[changed])
    assert n_changes == 1
    assert deployment_texts(deployment_copy) == before | {changed: expected}

    rendered = render(deployment_copy / "k8s/overlays" / overlay)
    pods = [pod_template(item) for item in rendered if item["kind"] in ("Deployment", "Job")]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert {image.partition("@")[2] for image in images} == {digest}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pin_rejects_tags(deployment_copy, overlay):
    """`make pin` takes a digest only, and changes nothing otherwise."""
    before = deployment_texts(deployment_copy)
    result = make(deployment_copy, "pin", f"OVERLAY={overlay}", "DIGEST=latest")
    assert result.returncode == 2
    assert "DIGEST: expected sha256: and 64 hex digits" in result.stdout
    assert deployment_texts(deployment_copy) == before


@pytest.mark.parametrize("task", ["digest", "pin"])
@pytest.mark.parametrize("arguments", [(), ("OVERLAY=other",)])
def test_tasks_reject_unknown_overlay(deployment_copy, task, arguments):
    """Without an overlay that exists, `make digest` and `make pin` list those that do."""
    result = make(deployment_copy, task, *arguments, f"DIGEST=sha256:{'1a' * 32}")
    assert result.returncode == 2
    assert result.stdout.startswith(f"OVERLAY: expected {' '.join(sorted(OVERLAYS))}\n")
    assert "sed" not in result.stdout + result.stderr


def test_promote_copies_staging_digest(deployment_copy):
    """`make promote` writes the digest of staging into production and prints it."""
    digest = f"sha256:{'2b' * 32}"
    make(deployment_copy, "pin", "OVERLAY=staging", f"DIGEST={digest}")
    before = deployment_texts(deployment_copy)
    result = make(deployment_copy, "promote")
    assert result.returncode == 0
    assert result.stdout == f"production now has the digest of staging, {digest}\n"

    expected = DIGEST.sub(digest, before[PRODUCTION])
    assert deployment_texts(deployment_copy) == before | {PRODUCTION: expected}
    printed = make(deployment_copy, "digest", "OVERLAY=production").stdout
    assert printed == f"{digest}\n"


def test_promote_rejects_placeholder(deployment_copy):
    """`make promote` refuses the placeholder of zeros, and changes nothing."""
    zeros = f"sha256:{'0' * 64}"
    make(deployment_copy, "pin", "OVERLAY=staging", f"DIGEST={zeros}")
    make(deployment_copy, "pin", "OVERLAY=production", f"DIGEST=sha256:{'3c' * 32}")
    before = deployment_texts(deployment_copy)
    result = make(deployment_copy, "promote")
    assert result.returncode == 2
    assert "staging has no release" in result.stdout
    assert deployment_texts(deployment_copy) == before


@pytest.mark.parametrize(
    "names", [("REPO=it", "IMAGE=ghcr.io/me/it"), ("REPO=https://github.com/me/it", "IMAGE=it")]
)
def test_adopt_rejects_bad_names(deployment_copy, names):
    """`make adopt` refuses what is no repository or no image, and changes nothing."""
    before = deployment_texts(deployment_copy)
    assert "expected" in make(deployment_copy, "adopt", *names).stdout
    assert deployment_texts(deployment_copy) == before


def test_adopt_replaces_all_names(deployment_copy):
    """`make adopt` replaces every name of the owner, and can be run again."""
    repo = "https://github.com/me/my-model"
    image = "ghcr.io/me/my-model"
    before = deployment_texts(deployment_copy)
    assert make(deployment_copy, "adopt", f"REPO={repo}.git", f"IMAGE={image}").returncode == 0

    after = deployment_texts(deployment_copy)
    changed = []
    for name, text in after.items():
        old_lines = before[name].splitlines()
        changed += [line for line in text.splitlines() if line not in old_lines]
    assert len(changed) == 10
    assert all(line.endswith((f" {repo}", f" {image}")) for line in changed)
    remaining = [name for name, text in after.items() if re.search(r"example/|\bexample\.", text)]
    assert not remaining

    signed = make(deployment_copy, "--dry-run", "verify", "DIGEST=sha256:0").stdout
    assert f"{repo}/.github/workflows/release.yml@refs/heads/main" in signed
    assert f"{image}@sha256:0" in signed
    assert (deployment_copy / ".github/workflows/release.yml").exists()

    # Back again: the task finds the names that it wrote.
    old = ("REPO=https://github.com/example/flask-ml-model", "IMAGE=ghcr.io/example/flask-ml-model")
    assert make(deployment_copy, "adopt", *old).returncode == 0
    assert deployment_texts(deployment_copy) == before
