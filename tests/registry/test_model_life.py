"""The model's life, as the README tells it: each command of its table, in a clone. Run by `make test-registry`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT, environment, git, wait_until

BIN = Path(sys.executable).parent
SECTION = re.search(
    r"\n## The model's life\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL
)[1]
ROWS = [
    re.split(r"(?<!\\)\|", line)[1:-1] for line in re.findall(r"^\|.*$", SECTION, re.MULTILINE)
][2:]
LIFE = {step.strip(): re.findall("`([^`]+)`", commands) for step, commands, _ in ROWS}
CHANGE = ("max_iter=200", "max_iter=300")  # another version, and no worse


@pytest.fixture
def do(clone, serve):
    """Return a function that runs a command beside a service and returns what it prints; its `step` runs a step's."""

    def run(command):
        command = command.replace("PID", str(service.process.pid)).replace(
            "localhost:5000", service.address
        )
        env = environment(
            PATH=f"{BIN}:/usr/bin:/bin",
            HOME=str(clone.parent),
            DVC_GLOBAL_CONFIG_DIR=str(clone.parent),
        )
        workers = set(service.workers())
        done = subprocess.run(
            ["bash", "-c", command], cwd=clone, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        if command.startswith("kill"):
            wait_until(lambda: len(service.workers()) == 2 and not workers & set(service.workers()))
        return done.stdout + done.stderr * ("FORCED" in done.stderr)

    service = serve(clone)
    run.step = lambda name: [run(command) for command in LIFE[name]]
    run.version = lambda: service.call("GET", "/readyz").headers["X-Model-Version"]
    return run


def test_each_command_of_the_table_does_what_it_says(clone, do):
    assert list(LIFE) == ["Train", "Register", "Compare", "Promote", "Deploy", "Watch", "Roll back"]
    do.step("Train")
    [said] = do.step("Register")
    first = re.search("registered (.*) as version 1 of iris\n", said)[1]
    do("python -m serving.registry promote models:/iris/1 --alias champion")
    do.step("Deploy")
    assert do.version() == first
    git(clone, "commit", "--quiet", "--all", "--allow-empty", "--message", "Trained")

    script = clone / "train.py"
    script.write_text(script.read_text().replace(*CHANGE))
    assert "Running stage 'train'" in do.step("Train")[0]
    [said] = do.step("Register")
    second = re.search("registered (.*) as version 2 of iris\n", said)[1]
    metrics, plots, versions = do.step("Compare")
    assert re.search(rf"sha256 +{first}\w+ +{second}", metrics)
    assert plots.endswith("/dvc_plots/index.html\n") and (clone / "dvc_plots/index.html").exists()
    assert [line.split()[:2] for line in versions.splitlines()[1:]] == [["2", second], ["1", first]]
    assert versions.endswith("champion\n")
    assert do.step("Promote") == ["champion of iris is version 2, previously 1\n"]
    assert do.version() == first
    pulled, _ = do.step("Deploy")
    assert pulled == f"wrote {clone / 'model.pkl'}: version 2 of iris, {second}\n"
    assert do.version() == second
    ready, drift = do.step("Watch")
    assert json.loads(ready) == {"status": "ready"}
    assert json.loads(drift)["model_version"] == second
    assert do.step("Roll back")[0] == "champion of iris is version 1, previously 2\n"
    assert do.version() == first
    status = subprocess.run(
        ["git", "status", "--short"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout
    assert "??" not in status  # what all this leaves behind is ignored
