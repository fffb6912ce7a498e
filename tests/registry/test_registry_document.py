"""docs/registry.md: its commands, run from top to bottom in a clone, beside a service."""

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from documentation import exchanges, run_commands
from helpers import environment, free_port

BIN = Path(sys.executable).parent

# Both are done for this test: the environment is installed, and PATH leads to it.
PREPARED = ("make install-registry", ". .venv-registry/bin/activate")


def run_git(directory, *arguments):
    command = ["git", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def walkthrough(clone):
    """Run the commands of the document and return each with what it printed."""
    first, second, *documented = exchanges("registry.md")
    assert (first[0], second[0]) == PREPARED

    port = free_port()
    moto_port = free_port()
    # Wait until ten responses in turn have the version of the file: no old worker is left.
    expected = "python -c \"import json; print(json.load(open('model.json'))['sha256'][:12])\""
    request = f"curl --silent --include localhost:{port}/readyz"
    wait = (
        f"version=$({expected}); n=0; while [ $n -lt 10 ]; do "
        f'if {request} | grep -i "x-model-version: $version"; '
        "then n=$((n + 1)); else n=0; sleep 0.1; fi; done"
    )
    commands = []
    for command, _ in documented:
        command = command.replace("localhost:5000", f"localhost:{port}")
        commands.append(command.replace("5050", str(moto_port)))

    environ = environment(
        clone,
        PATH=f"{BIN}:/usr/bin:/bin",
        PORT=port,
        HOME=str(clone.parent),
        DVC_GLOBAL_CONFIG_DIR=str(clone.parent),
    )
    wait_for_moto = f"until curl --silent localhost:{moto_port}; do sleep 0.1; done"
    waits = {"gunicorn": wait, "kill -HUP": wait, "moto_server": wait_for_moto}
    outputs = run_commands(commands, clone, environ, waits)
    return list(zip(documented, outputs, strict=True))


def test_documented_commands_run_in_order(clone, walkthrough):
    """Each command works after those above it, and two different versions follow each other."""
    outputs = {}
    for (command, printed), output in walkthrough:
        if printed:
            assert output == printed, command
        outputs.setdefault(command, []).append(output)

    first, second = (
        re.search(rf"registered (\w+) as version {number} of iris\n", output)[1]
        for number, output in enumerate(outputs["python train.py --register iris"], 1)
    )
    assert first != second

    # The second training ran, because the script had changed.
    assert "Running stage 'train'" in outputs["dvc repro"][1]
    [metrics] = outputs["dvc metrics diff"]
    committed = msgspec.json.decode(run_git(clone, "show", "HEAD:model.json"))["sha256"]
    assert re.search(rf"sha256 +{committed} +{second}", metrics)
    [plots] = outputs["dvc plots diff"]
    assert plots.endswith("/dvc_plots/index.html\n")
    assert (clone / "dvc_plots/index.html").exists()
    [versions] = outputs["python -m serving.registry list iris"]
    assert [line.split()[:2] for line in versions.splitlines()[1:]] == [["2", second], ["1", first]]
    assert versions.endswith("champion\n")

    pulled = outputs["python -m serving.registry pull models:/iris@champion"]
    path = clone / "model.pkl"
    assert pulled[1] == f"wrote {path}: version 2 of iris, {second}\n"
    assert pulled[2] == f"wrote {path}: version 1 of iris, {first}\n"
    [drift] = outputs["curl -X GET http://localhost:5000/drift"]
    assert json.loads(drift)["model_version"] == second

    # The rollback has put the first version back.
    card = msgspec.json.decode((clone / "model.json").read_bytes())
    assert card["sha256"][:12] == first

    # What the commands create is ignored by git.
    assert "??" not in run_git(clone, "status", "--short")
