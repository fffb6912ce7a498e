"""The Dockerfile and .dockerignore, read without building the image."""

import re

from helpers import ROOT
from manifests import DIGEST, IMAGES, MAKEFILE, instructions


def test_base_image_is_pinned_once():
    """The base image is named once, by tag and digest."""
    base, *others, shipped = instructions("FROM")
    pattern = rf"docker\.io/library/python:3\.\d+-slim-trixie@{DIGEST.pattern} AS python"
    assert re.fullmatch(pattern, base)
    assert shipped == "runtime AS service"  # `docker build .` builds the last stage
    # One line for whoever updates the base.
    assert all(re.fullmatch(r"(python|build|runtime) AS [a-z-]+", stage) for stage in others)


def test_released_images_are_stages():
    """Each image that is released is a stage, and starts from the base image."""
    stages = dict(reversed(stage.split(" AS ")) for stage in instructions("FROM"))
    starts = {stages[target] for target in IMAGES} - {"runtime"} | {stages["runtime"]}
    assert starts == {"python"}


def test_bytecode_has_no_times():
    """Two builds have the same files: no bytecode depends on the time of its source."""
    commands = " ".join(instructions("RUN"))
    n_images = len(IMAGES) + 1  # the edge image is built by those who need it
    assert commands.count("pip --python") == commands.count("--no-compile") == n_images
    assert re.findall(r"compileall(?! -q --invalidation-mode unchecked-hash)", commands) == []
    assert commands.count("-name tests -prune -exec rm -r {} +") == n_images


def test_system_packages_are_in_every_image():
    """Packages of Debian are installed in the stage that all others start from, if any is named."""
    base = (ROOT / "Dockerfile").read_text().partition("\nFROM python")[0]
    assert "\nARG SYSTEM_PACKAGES=" in base
    assert 'RUN test -z "$SYSTEM_PACKAGES" ||' in base


def test_image_starts_gunicorn_without_shell():
    """The image starts gunicorn in exec form, as `make run` does."""
    assert instructions("CMD")[-1] == '["gunicorn", "app:app"]'
    assert "\texec $(BIN)/gunicorn app:app\n" in MAKEFILE


def test_dockerignore_allows_copied_files_only():
    """The image gets only what .dockerignore allows, and COPY uses all of it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored, *patterns = [line for line in lines if not line.startswith("#")]
    allowed = [pattern for pattern in patterns if pattern.startswith("!")]
    assert ignored == "*"
    assert set(patterns) - set(allowed) == {"**/__pycache__"}
    # podman does not look for a pattern below a folder that no line names.
    assert not any("*" in pattern for pattern in allowed)

    copied = set()
    for arguments in instructions("COPY"):
        if "--from" not in arguments:
            *sources, _ = arguments.split()
            copied.update(sources)

    assert {pattern.removeprefix("!") for pattern in allowed} == copied
    assert all((ROOT / name).exists() for name in copied)
