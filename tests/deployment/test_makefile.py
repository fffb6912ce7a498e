"""The Makefile: help, what a task needs, the container engine, what `clean` removes."""

import re
import shutil
import sys

import pytest

from helpers import ROOT
from manifests import MAKEFILE, make

NEEDS = {
    "bench": "needs wrk: apt-get install wrk",
    "image": "needs docker or podman with an engine that answers `info`",
    "image-test": "needs docker or podman with an engine that answers `info`",
    "test-adoption": "needs git: apt-get install git",
    "test-batch": "needs redis-server: apt-get install redis-server",
    "test-browser": "needs chromium: apt-get install chromium",
    "test-cluster": "needs kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "test-crds": "needs git: apt-get install git",
    "test-monitoring": "needs prometheus: apt-get install prometheus",
    "test-proxies": "needs nginx: apt-get install nginx-light haproxy",
    "test-registry": "needs git: apt-get install git",
    "test-swap": "needs git: apt-get install git",
    "verify": "needs cosign: https://docs.sigstore.dev/cosign/system_config/installation/",
}

SHELL_PROGRAMS = ("sh", "make", "sed", "awk", "grep", "rm", "mv", "find", "touch", "test")


@pytest.fixture
def bare_path(tmp_path):
    """Return a folder, to be used as PATH, with a shell and none of what a task may need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in SHELL_PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))

    return folder


def write_program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_help_lists_documented_targets():
    """`make` alone lists every task that has a help text."""
    output = make(ROOT).stdout
    listed = re.findall(r"^  make ([a-z-]+) ", output, re.MULTILINE)
    assert listed == re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
    assert {"run", "test", "lint", "train", "clean"} <= set(listed)


@pytest.mark.parametrize("task", NEEDS)
def test_task_checks_needs_first(deployment_copy, bare_path, task):
    """A task that needs more than Python says so before it installs anything."""
    result = make(deployment_copy, task, env={"PATH": str(bare_path)})
    assert result.returncode == 2
    assert result.stdout.splitlines()[0] == NEEDS[task]
    assert not list(deployment_copy.glob(".venv*"))


def test_every_need_is_tested():
    """NEEDS has every task that depends on a check of a program."""
    pattern = r"^([a-z-]+): (?:need-(?!overlay)|image )"
    assert sorted(re.findall(pattern, MAKEFILE, re.MULTILINE)) == sorted(NEEDS)


def test_need_checks_every_program(deployment_copy, bare_path):
    """A need of two programs is not met by the first alone."""
    write_program(bare_path / "redis-server", "exit 0")
    result = make(deployment_copy, "need-redis", env={"PATH": str(bare_path)})
    assert result.stdout.startswith("needs redis-cli: ")


def test_image_uses_engine_that_answers(deployment_copy, bare_path):
    """A docker client without an engine is passed over for podman."""
    write_program(bare_path / "docker", "exit 1")
    write_program(bare_path / "podman", "exit 0")
    result = make(deployment_copy, "--dry-run", "image", env={"PATH": str(bare_path)})
    assert "podman build  --tag flask-ml-model ." in result.stdout.splitlines()

    write_program(bare_path / "docker", "exit 0")
    result = make(deployment_copy, "--dry-run", "image", env={"PATH": str(bare_path)})
    assert "docker build  --tag flask-ml-model ." in result.stdout.splitlines()


FAILING_APP = """
from flask import Flask

app = Flask(__name__)


@app.get("/openapi.json")
def fail():
    return {"error": "it failed"}, 500
"""


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("raise SystemExit('no model')", "no model"),
        (FAILING_APP, "it failed"),
        ("app = None", "NoneType"),
    ],
    ids=["does not start", "responds with an error", "is no application"],
)
def test_failed_openapi_leaves_old_file(deployment_copy, app, reason):
    """If the application has no document, `make openapi` fails and keeps the old one."""
    (deployment_copy / ".venv/bin").mkdir(parents=True)
    write_program(deployment_copy / ".venv/bin/python", f'exec {sys.executable} "$@"')
    (deployment_copy / "app.py").write_text(app)
    (deployment_copy / "requirements.txt").touch()
    (deployment_copy / ".venv/serving").touch()
    (deployment_copy / "docs").mkdir()
    document = deployment_copy / "docs/openapi.json"
    document.write_text("{}")

    result = make(deployment_copy, "openapi")
    assert result.returncode == 2
    assert reason in result.stderr
    assert [path.name for path in document.parent.iterdir()] == ["openapi.json"]
    assert document.read_text() == "{}"


def test_clean_keeps_registered_models(deployment_copy):
    """`make clean` removes environments and caches, and keeps the model registry."""
    removed = (".venv", ".venv-batch", ".mypy_cache", ".pytest_cache", "serving/__pycache__")
    kept = ("mlruns", "serving")
    for name in (*removed, *kept):
        (deployment_copy / name).mkdir(parents=True, exist_ok=True)
    (deployment_copy / "mlflow.db").touch()

    assert make(deployment_copy, "clean").returncode == 0
    assert not [name for name in removed if (deployment_copy / name).exists()]
    assert all((deployment_copy / name).exists() for name in (*kept, "mlflow.db"))
