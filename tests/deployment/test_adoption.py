"""The tasks that edit the manifests: adopt, pin, promote, digest."""

import re

import pytest

from helpers import ROOT
from manifests import (
    DIGEST,
    IMAGES,
    OVERLAYS,
    deployment_texts,
    make,
    pods_of,
    render,
    set_components,
)

PRODUCTION = "k8s/overlays/production/kustomization.yaml"

# The containers that run each image.
CONTAINERS = {"service": {"ml-model", "check"}, "batch": {"batch"}, "registry": {"pull"}}

ZEROS = f"sha256:{'0' * 64}"


def digest_of(target):
    """Return a made-up digest, another for each image."""
    return f"sha256:{list(IMAGES).index(target) + 1:064x}"


def pin(directory, overlay, target, digest):
    return make(directory, "pin", f"OVERLAY={overlay}", f"TARGET={target}", f"DIGEST={digest}")


def list_changes(before, after):
    """Return each line that is new or different, with the path of its file."""
    changes = []
    for path, text in after.items():
        old_lines = before[path].splitlines()
        changes += [(path, line) for line in text.splitlines() if line not in old_lines]

    return changes


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("target", IMAGES)
def test_pin_changes_one_line(deployment_copy, overlay, target):
    """A release changes one line for each image, and every pod of that image runs the digest."""
    digest = digest_of(target)
    before = deployment_texts(deployment_copy)
    assert pin(deployment_copy, overlay, target, digest).returncode == 0

    after = deployment_texts(deployment_copy)
    changed = f"k8s/overlays/{overlay}/kustomization.yaml"
    assert {path for path in after if after[path] != before[path]} == {changed}
    assert list_changes(before, after) == [(changed, f"    digest: {digest}")]

    set_components(deployment_copy, overlay, ["batch", "registry"])
    rendered = render(deployment_copy / "k8s/overlays" / overlay)
    pods = [pod for item in rendered for pod in pods_of(item)]
    containers = [
        item for pod in pods for item in pod["containers"] + pod.get("initContainers", [])
    ]
    pinned = {item["name"] for item in containers if item["image"].endswith(digest)}
    assert pinned == CONTAINERS[target]


def test_pin_names_service_by_default(deployment_copy):
    """Without TARGET, `make pin` and `make digest` are about the service."""
    digest = digest_of("service")
    make(deployment_copy, "pin", "OVERLAY=staging", f"DIGEST={digest}")
    assert make(deployment_copy, "digest", "OVERLAY=staging").stdout == f"{digest}\n"


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
    result = make(deployment_copy, task, *arguments, f"DIGEST={digest_of('service')}")
    assert result.returncode == 2
    assert result.stdout.startswith(f"OVERLAY: expected {' '.join(sorted(OVERLAYS))}\n")
    assert "sed" not in result.stdout + result.stderr


@pytest.mark.parametrize("task", ["digest", "pin"])
def test_tasks_reject_unknown_image(deployment_copy, task):
    """`make digest` and `make pin` list the images that there are."""
    result = make(deployment_copy, task, "OVERLAY=staging", "TARGET=other")
    assert result.returncode == 2
    assert result.stdout == f"TARGET: expected one of {' '.join(IMAGES)}\n"


def test_pin_reports_missing_image(deployment_copy):
    """`make pin` fails if the overlay does not have the image."""
    path = deployment_copy / PRODUCTION
    path.write_text(path.read_text().replace(f"- name: {IMAGES['batch']}\n", "- name: other\n"))
    result = pin(deployment_copy, "production", "batch", digest_of("batch"))
    assert result.returncode == 2
    assert result.stdout == f"{PRODUCTION}: no image {IMAGES['batch']}\n"


def test_promote_copies_staging_digests(deployment_copy):
    """`make promote` writes the digests of staging into production and prints them."""
    for target in IMAGES:
        pin(deployment_copy, "staging", target, digest_of(target))
        pin(deployment_copy, "production", target, ZEROS)
    before = deployment_texts(deployment_copy)
    result = make(deployment_copy, "promote")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        f"{target}: production now has the digest of staging, {digest_of(target)}"
        for target in IMAGES
    ]

    expected = [(PRODUCTION, f"    digest: {digest_of(target)}") for target in IMAGES]
    assert list_changes(before, deployment_texts(deployment_copy)) == expected
    for target in IMAGES:
        printed = make(deployment_copy, "digest", "OVERLAY=production", f"TARGET={target}").stdout
        assert printed == f"{digest_of(target)}\n"


def test_promote_rejects_placeholder(deployment_copy):
    """`make promote` refuses the placeholder of zeros, and changes nothing."""
    pin(deployment_copy, "staging", "service", ZEROS)
    pin(deployment_copy, "production", "service", digest_of("service"))
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


def adopt(directory, repo, image):
    """Adopt a copy and return its texts."""
    result = make(directory, "adopt", f"REPO={repo}", f"IMAGE={image}")
    assert result.returncode == 0, result.stdout
    return deployment_texts(directory)


def test_adopt_replaces_all_names(deployment_copy):
    """`make adopt` replaces every name of the owner, whatever it is, and can be run again."""
    first_repo = "https://git.one.test/first/price"
    first_image = "registry.one.test:5000/first/price"
    second_repo = "https://github.com/second/model"
    second_image = "ghcr.io/second/model"

    first = adopt(deployment_copy, f"{first_repo}.git", first_image)
    second = adopt(deployment_copy, second_repo, second_image)
    for path, text in first.items():
        replaced = text.replace(first_repo, second_repo).replace(first_image, second_image)
        assert second[path] == replaced

    changes = list_changes(first, second)
    assert all(line.endswith((f" {second_repo}", f" {second_image}")) for _, line in changes)
    # Each Application and the project; each image of each overlay, and two workflows.
    lines = [line for text in second.values() for line in text.splitlines()]
    assert sum(line.endswith(f" {second_repo}") for line in lines) == len(OVERLAYS) + 1
    assert sum(line.endswith(f" {second_image}") for line in lines) == len(OVERLAYS) * 3 + 2

    signed = make(deployment_copy, "--dry-run", "verify", "DIGEST=sha256:0").stdout
    assert f"{second_repo}/.github/workflows/release.yml@refs/heads/main" in signed
    assert f"{second_image}@sha256:0" in signed
    assert adopt(deployment_copy, first_repo, first_image) == first


def test_adopt_leaves_no_example(deployment_copy):
    """After `make adopt` no file names the repository or the registry of the example."""
    after = adopt(deployment_copy, "https://git.one.test/it", "registry.one.test/it")
    assert not [path for path, text in after.items() if re.search(r"[/.]example/", text)]


def test_digests_are_digests():
    """Every overlay names a digest for every image."""
    for overlay in OVERLAYS:
        for target in IMAGES:
            printed = make(ROOT, "digest", f"OVERLAY={overlay}", f"TARGET={target}").stdout
            assert DIGEST.fullmatch(printed.strip())
