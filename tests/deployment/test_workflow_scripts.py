"""The scripts in the workflows that commit digests, run with real git against a repository here."""

import os
import subprocess

import pytest

from manifests import IMAGES, make, workflows

DIGESTS = {target: f"sha256:{number:064x}" for number, target in enumerate(IMAGES, 1)}

GH = """#!/bin/sh
echo gh "$@" >> "$RECORD"
case "$*" in
    "pr list "*) cat "$OPEN_REQUESTS" ;;
    "pr create "*) exit "$(cat "$CREATE_STATUS")" ;;
esac
"""

MAIN = "refs/heads/main"


def git(directory, *arguments):
    command = ["git", "-C", directory, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def origin(deployment_copy, tmp_path_factory):
    """Return a bare repository whose main branch has the deployment files."""
    directory = tmp_path_factory.mktemp("origin")
    git(directory, "init", "--quiet", "--bare", "--initial-branch", "main")
    for target in IMAGES:
        for overlay in ("staging", "production"):
            pin(deployment_copy, overlay, target, f"sha256:{'0' * 64}")
    git(deployment_copy, "init", "--quiet", "--initial-branch", "main")
    commit_all(deployment_copy, "All files")
    git(deployment_copy, "push", "--quiet", directory, "main")
    return directory


@pytest.fixture
def run_job(origin, tmp_path_factory):
    """Return a function that runs the last step of a job, in a new clone as the job does."""

    def run(file, job, before=None, **variables):
        work = tmp_path_factory.mktemp("work")
        clone = work / "clone"
        subprocess.run(["git", "clone", "--quiet", origin, clone], check=True)
        if before:
            before(clone)
        step = workflows()[file]["jobs"][job]["steps"][-1]
        # Not those of `make test`, with which make prints in which directory it works.
        environ = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        environ |= {
            "GITHUB_REPOSITORY": "you/it",
            "GITHUB_SHA": "1234567",
            "TOKEN": "secret",
            "GH_TOKEN": "secret",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://x-access-token:secret@github.com/you/it.git",
        }
        # GitHub's default shell.
        command = ["bash", "-e", "-c", step["run"]]
        return subprocess.run(
            command, cwd=clone, env=environ | variables, capture_output=True, text=True
        )

    return run


def commit_all(directory, message):
    git(directory, "config", "user.name", "Test")
    git(directory, "config", "user.email", "test@example.org")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", message)


def pin(directory, overlay, target, digest):
    make(directory, "pin", f"OVERLAY={overlay}", f"TARGET={target}", f"DIGEST={digest}")


def read_digests(origin, overlay, revision=MAIN):
    """Return the digests of an overlay in a revision of the repository."""
    path = f"{revision}:k8s/overlays/{overlay}/kustomization.yaml"
    lines = git(origin, "show", path).splitlines()
    return [line.split()[-1] for line in lines if line.strip().startswith("digest: ")]


def run_pin(run_job, **options):
    variables = {target.upper(): digest for target, digest in DIGESTS.items()}
    return run_job("release.yml", "pin", **variables, **options)


def test_pin_commits_every_digest(origin, run_job):
    """The job `pin` commits the three digests to the staging overlay, on the main branch."""
    result = run_pin(run_job)
    assert result.returncode == 0, result.stderr
    assert read_digests(origin, "staging") == list(DIGESTS.values())
    message = git(origin, "log", "-1", "--format=%B", MAIN)
    assert message == f"Stage {DIGESTS['service']}\n\nBuilt from 1234567."


def test_second_pin_succeeds(origin, run_job):
    """A second run after a success commits nothing and succeeds."""
    run_pin(run_job)
    head = git(origin, "rev-parse", MAIN)
    result = run_pin(run_job)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("staging has these digests already\n")
    assert git(origin, "rev-parse", MAIN) == head


def test_pin_follows_moved_branch(origin, run_job, deployment_copy):
    """If somebody pushes while the job runs, it commits again on top of that."""

    def push_before_job(clone):
        (deployment_copy / "other.txt").write_text("other")
        commit_all(deployment_copy, "Another commit")
        hook = clone / ".git/hooks/pre-push"
        # Git names the repository of the hook in the environment.
        push = f"env -u GIT_DIR git -C {deployment_copy} push --quiet {origin} main"
        hook.write_text(f"#!/bin/sh\n{push}\n")
        hook.chmod(0o755)

    result = run_pin(run_job, before=push_before_job)
    assert result.returncode == 0, result.stderr
    subjects = git(origin, "log", "--format=%s", MAIN).splitlines()
    assert subjects == [f"Stage {DIGESTS['service']}", "Another commit", "All files"]
    assert read_digests(origin, "staging") == list(DIGESTS.values())


@pytest.fixture
def promote(origin, run_job, tmp_path):
    """Return a function that runs the workflow `promote` after a release, and returns its calls."""
    run_pin(run_job)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "cosign").write_text('#!/bin/sh\necho cosign "$@" >> "$RECORD"\n')
    for program in programs.iterdir():
        program.chmod(0o755)

    def run(open_requests, create_status=0):
        files = {
            "RECORD": "",
            "OPEN_REQUESTS": str(open_requests),
            "CREATE_STATUS": str(create_status),
        }
        variables = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        for name, text in files.items():
            (tmp_path / name).write_text(text)
            variables[name] = str(tmp_path / name)
        result = run_job("promote.yml", "pull-request", **variables)
        return result, (tmp_path / "RECORD").read_text().splitlines()

    return run


def list_branches(origin):
    return git(origin, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()


def test_promotion_opens_pull_request(origin, promote):
    """The workflow verifies each digest, pushes a branch and opens a pull request for it."""
    result, calls = promote(open_requests=0)
    assert result.returncode == 0, result.stderr
    [branch, main] = sorted(list_branches(origin), reverse=True)
    assert main == "main"
    assert read_digests(origin, "production", branch) == list(DIGESTS.values())
    assert read_digests(origin, "production") != list(DIGESTS.values())

    verified = [line.rpartition("@")[2] for line in calls if line.startswith("cosign verify")]
    assert verified == list(DIGESTS.values())
    assert calls[-1] == f"gh pr create --base main --head {branch} --fill"


def test_failed_promotion_can_run_again(origin, promote):
    """If GitHub refused the pull request, a second run opens it from the branch of the first."""
    refused, _ = promote(open_requests=0, create_status=1)
    assert refused.returncode == 1
    branches = list_branches(origin)

    result, calls = promote(open_requests=0)
    assert result.returncode == 0, result.stderr
    assert calls[-1].startswith("gh pr create ")
    assert list_branches(origin) == branches

    again, calls = promote(open_requests=1)
    assert again.returncode == 0, again.stderr
    assert calls[-1].startswith("gh pr list ")


def test_promotion_of_promoted_digests_does_nothing(origin, promote, deployment_copy):
    """If production has the digests of staging, the workflow says so and succeeds."""
    git(deployment_copy, "pull", "--quiet", "--rebase", origin, "main")
    make(deployment_copy, "promote")
    commit_all(deployment_copy, "Promote")
    git(deployment_copy, "push", "--quiet", origin, "main")

    result, calls = promote(open_requests=0)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("production has the digests of staging already\n")
    assert calls == []
    assert list_branches(origin) == ["main"]
