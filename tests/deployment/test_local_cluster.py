"""The commands of "Local cluster", run with real git and make; other programs only record."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from documentation import DOCUMENTS, section
from helpers import ROOT, free_port
from manifests import MAKEFILE

SECTION = section("deployment.md", "Local cluster")

DIGESTS = {version: f"sha256:{version * 64}" for version in ("1", "2")}

# What each program prints, beside recording its arguments.
PROGRAMS = {
    "kind": "",
    "kubectl": "case $1 in get) echo 3 ;; esac",
    "curl": "echo '{\"prediction\":[0]}'",
    "docker": """
        case "$*" in
            *--interactive*) cat > /dev/null ;;
            "network inspect kind "*) printf 'fc00::1\\n127.0.0.1\\n' ;;
            "inspect --format "*:1) echo localhost:5001/flask-ml-model@DIGEST_1 ;;
            "inspect --format "*:2) echo localhost:5001/flask-ml-model@DIGEST_2 ;;
        esac""",
}


def write_programs(directory, log):
    directory.mkdir()
    for name, body in PROGRAMS.items():
        body = body.replace("DIGEST_1", DIGESTS["1"]).replace("DIGEST_2", DIGESTS["2"])
        program = directory / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{body}\n')
        program.chmod(0o755)


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(deployment_copy, monkeypatch):
    """Return a repository with the files that the commands use, and an identity for commits."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    for name in ("docs", ".ci"):
        shutil.copytree(ROOT / name, deployment_copy / name)

    git("init", "--quiet", "--initial-branch", "topic", deployment_copy)
    git("-C", deployment_copy, "add", "--all")
    git("-C", deployment_copy, "commit", "--quiet", "--message", "All files")
    return deployment_copy


def test_commands_lead_to_rollback(clone, tmp_path_factory):
    """The commands run from top to bottom; in the end production has the first version again."""
    work = tmp_path_factory.mktemp("work")
    log = work / "log"
    write_programs(work / "bin", log)
    port = free_port()
    pid_file = work / "pid"
    document = clone / "docs/deployment.md"
    daemon = f"git daemon --listen=127.0.0.1 --port={port} --pid-file={pid_file}"
    text = document.read_text().replace("/tmp/kind", f"{work}/kind")
    document.write_text(text.replace("git daemon", daemon))

    environ = os.environ | {"PATH": f"{work}/bin{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        [clone / ".ci/local_cluster.sh"], env=environ, capture_output=True, text=True
    )
    try:
        assert result.returncode == 0, result.stdout + result.stderr
        refs = git("ls-remote", f"git://127.0.0.1:{port}/model", "refs/heads/main")
    finally:
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)

    checkout = work / "kind/work"
    assert refs.split()[0] == git("-C", checkout, "rev-parse", "HEAD").strip()
    for name, version in (("staging", "2"), ("production", "1")):
        text = (checkout / f"k8s/overlays/{name}/kustomization.yaml").read_text()
        assert {digest for digest in DIGESTS.values() if digest in text} == {DIGESTS[version]}
        assert "newName: localhost:5001/flask-ml-model\n" in text
    assert "repoURL: git://127.0.0.1/model\n" in (checkout / "k8s/argocd/staging.yaml").read_text()

    promoted = git("-C", checkout, "show", "HEAD^:k8s/overlays/production/kustomization.yaml")
    assert DIGESTS["2"] in promoted
    waits = [line for line in log.read_text().splitlines() if line.startswith("kubectl wait")]
    assert f"localhost:5001/flask-ml-model@{DIGESTS['1']}" in waits[-3]


def test_unexpected_output_fails(clone, tmp_path_factory):
    """If a command does not print what the document shows, the script fails and says so."""
    work = tmp_path_factory.mktemp("work")
    write_programs(work / "bin", work / "log")
    block = '$ curl http://localhost:5000\n{"prediction":[1]}'
    (clone / "docs/deployment.md").write_text(f"## Local cluster\n\n```console\n{block}\n```\n")
    environ = os.environ | {"PATH": f"{work}/bin{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        [clone / ".ci/local_cluster.sh"], env=environ, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stdout.endswith('not printed: {"prediction":[1]}\n')


# Their resources are those of components that the local cluster does not have.
NOT_INSTALLED = {"kubernetes-sigs/gateway-api", "kedacore/keda"}


def test_installed_versions_are_validated_versions():
    """The document installs the versions whose definitions `make test-crds` validates by."""
    sources = dict(re.findall(r"([\w-]+/[\w-]+):(v[0-9.]+):", MAKEFILE))
    pattern = r"raw\.githubusercontent\.com/([\w-]+/[\w-]+)/(v[0-9.]+)/"
    installed = re.findall(pattern, DOCUMENTS["deployment.md"])
    assert {name for name, _ in installed} == sources.keys() - NOT_INSTALLED
    assert all(sources[name] == version for name, version in installed)


def test_steps_are_skipped_to_full_weight():
    """The step that a person skips to is the one that gives all pods the new version."""
    steps = (ROOT / "k8s/components/rollout/rollout.yaml").read_text().split("\n      steps:\n")[1]
    kinds = re.findall(r"^        - (\w+): ?(\d*)", steps, re.MULTILINE)
    [index] = re.findall(r'{"currentStepIndex": (\d)}', SECTION)
    assert kinds[int(index)] == ("setWeight", "100")
    assert Path(ROOT / ".ci/local_cluster.sh").stat().st_mode & 0o111
