"""The life of a model as the README describes it: each command of its table, in a clone."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from helpers import ROOT, git, wait_until
from registries import change_training

README = (ROOT / "README.md").read_text()
SECTION = re.search(r"\n## The model's life\n(.*?)\n## ", README, re.DOTALL)[1]
TABLE = re.findall(r"^\|.*$", SECTION, re.MULTILINE)


def commands_by_step():
    """Return the commands of each row of the table by its first cell."""
    commands = {}
    for line in TABLE[2:]:
        step, command_cell, _ = re.split(r"(?<!\\)\|", line)[1:-1]
        commands[step.strip()] = re.findall("`([^`]+)`", command_cell)
    return commands


COMMANDS = commands_by_step()


@dataclass
class Walkthrough:
    """A clone with a running service, and the commands of the README for both."""

    clone: Any
    service: Any

    def run(self, command):
        """Run a command beside the service and return its output."""
        command = command.replace("PID", str(self.service.process.pid))
        command = command.replace("localhost:5000", self.service.address)
        old_workers = set(self.service.workers())
        output, _ = self.clone.run("bash", "-c", command)
        if command.startswith("kill"):
            wait_until(lambda: self._workers_are_replaced(old_workers))
        return output

    def run_step(self, step):
        """Run the commands of a step and return the output of each."""
        return [self.run(command) for command in COMMANDS[step]]

    def served_version(self):
        return self.service.call("GET", "/readyz").headers["X-Model-Version"]

    def _workers_are_replaced(self, old_workers):
        workers = set(self.service.workers())
        return len(workers) == 2 and not workers & old_workers


@pytest.fixture
def walkthrough(working_clone, serve):
    return Walkthrough(working_clone, serve(working_clone.directory))


def test_readme_commands_manage_a_model(walkthrough):
    """Each command of the table does what the table says, in the order of the table."""
    steps = ["Train", "Register", "Compare", "Promote", "Deploy", "Watch", "Roll back"]
    assert list(COMMANDS) == steps
    directory = walkthrough.clone.directory

    walkthrough.run_step("Train")
    [output] = walkthrough.run_step("Register")
    first = re.search("registered (.*) as version 1 of iris\n", output)[1]
    walkthrough.run("python -m serving.registry promote models:/iris/1 --alias champion")
    walkthrough.run_step("Deploy")
    assert walkthrough.served_version() == first
    git(directory, "commit", "--quiet", "--all", "--allow-empty", "--message", "Trained")

    change_training(directory, "max_iter=300")  # another version, and no worse
    git(directory, "add", "--all")
    assert "Running stage 'train'" in walkthrough.run_step("Train")[0]
    [output] = walkthrough.run_step("Register")
    second = re.search("registered (.*) as version 2 of iris\n", output)[1]

    metrics, plots, versions = walkthrough.run_step("Compare")
    assert re.search(rf"sha256 +{first}\w+ +{second}", metrics)
    assert plots.endswith("/dvc_plots/index.html\n")
    assert (directory / "dvc_plots/index.html").exists()
    rows = [line.split()[:2] for line in versions.splitlines()[1:]]
    assert rows == [["2", second], ["1", first]]
    assert versions.endswith("champion\n")

    [output] = walkthrough.run_step("Promote")
    assert output == "champion of iris is version 2, previously 1\n"
    assert walkthrough.served_version() == first
    output, _ = walkthrough.run_step("Deploy")
    assert output == f"wrote {directory / 'model.pkl'}: version 2 of iris, {second}\n"
    assert walkthrough.served_version() == second

    ready, drift = walkthrough.run_step("Watch")
    assert json.loads(ready) == {"status": "ready"}
    assert json.loads(drift)["model_version"] == second

    output = walkthrough.run_step("Roll back")[0]
    assert output == "champion of iris is version 1, previously 2\n"
    assert walkthrough.served_version() == first
    status, _ = walkthrough.clone.run("git", "status", "--short")
    assert "??" not in status  # all that the commands leave behind is ignored
