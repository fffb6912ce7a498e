"""docs/batch.md: its commands, run from top to bottom on a fresh copy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from documentation import exchanges, run_commands
from helpers import MODEL_FILE, PROGRAM, ROOT, environment, free_port, git

BIN = Path(sys.executable).parent


def wait_for_port(port):
    """Return the shell code that waits until a server listens."""
    return f"until (: </dev/tcp/localhost/{port}) 2>/dev/null; do sleep 0.1; done"


def test_documented_commands_run_in_order(tmp_path):
    """Each command of docs/batch.md works after those above it, and prints what is shown."""
    for name in (*PROGRAM, "batch.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for path in (MODEL_FILE, MODEL_FILE.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    git(tmp_path, "init", "--quiet")
    before = set(tmp_path.iterdir())

    install, *documented = exchanges("batch.md")
    assert install[0] == "make install-batch"  # what runs this test has installed it
    port = free_port()
    redis_port = free_port()
    commands = []
    for command, _ in documented:
        command = command.replace(".venv-batch/bin/", f"{BIN}/").replace("8786", port)
        command = command.replace("6379", redis_port)
        commands.append(command.replace("dask scheduler", f"dask scheduler --port {port}"))

    waits = {"dask scheduler": wait_for_port(port), "redis-server": wait_for_port(redis_port)}
    environ = environment(tmp_path, HOME=str(tmp_path.parent))
    outputs = run_commands(commands, tmp_path, environ, waits)

    for (command, printed), output in zip(documented, outputs, strict=True):
        if "batch.py" in command and "- -" not in command and "?stream=" not in command:
            assert re.match("[136] rows in ", output), command
        else:
            assert output == printed, command

    created = {
        "all.csv",
        "excel.csv",
        "excel-scored.csv",
        "flowers",
        "flowers.csv",
        "model.plan",
        "parts",
        "scored",
        "scored.csv",
        "scored.parquet",
    }
    errors = {f"{name}.errors.ndjson" for name in ("all.csv", "scored.csv", "scored.parquet")}
    assert {path.name for path in set(tmp_path.iterdir()) - before} == created | errors

    # None of them is a change of the clone, which `make test` would find.
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    others = {path.split("/")[0] for path in listed.stdout.split()}
    assert others & (created | errors) == set()
