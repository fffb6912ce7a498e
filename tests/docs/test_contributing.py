"""The habits: pre-commit runs what `make lint` runs, and the changelog has each version."""

import re
import shlex

import yaml

from documentation import DOCUMENTS
from helpers import ROOT
from manifests import MAKEFILE, PROJECT


def test_hooks_run_lint_commands():
    """The pre-commit hooks run the commands of `make lint`, and fetch nothing."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    lint_commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]

    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    [repository] = configuration["repos"]
    assert repository["repo"] == "local"
    hook_commands = []
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        words = shlex.split(hook["entry"])
        hook_commands.append(words[-1] if words[:2] == ["sh", "-c"] else hook["entry"])

    assert hook_commands == lint_commands


def test_changelog_has_current_version():
    """The changelog has a section for the unreleased changes and for the current version."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+)\]", changelog, re.MULTILINE)
    assert versions[:2] == ["Unreleased", PROJECT["project"]["version"]]
    kinds = set(re.findall(r"^### (.+)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_contributing_is_short():
    """The contributing guide fits one screen."""
    assert len(DOCUMENTS["CONTRIBUTING.md"].encode()) < 1500
