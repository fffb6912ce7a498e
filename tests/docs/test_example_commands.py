"""docs/your-model.md: the commands of an example, run from top to bottom in a clone."""

import json
import sys
from pathlib import Path

from documentation import exchanges, run_commands
from helpers import environment, free_port

BIN = Path(sys.executable).parent


def test_example_is_trained_and_served(clone):
    """Each command works after those above it, and the service answers with the example's model."""
    install, train, serve = [command for command, _ in exchanges("your-model.md")]
    assert install == "make install"  # what runs this test has installed it
    (clone / ".venv").symlink_to(BIN.parent)
    port = free_port()
    ready = f"until curl --silent --fail localhost:{port}/readyz; do sleep 0.1; done"
    serve = serve.replace("make ", "make --assume-old=.venv/serving ")

    environ = environment(clone, PORT=port)
    commands = [train, f"{serve} &", f"curl --silent localhost:{port}/"]
    *_, index = run_commands(commands, clone, environ, {"make ": ready})
    card = json.loads((clone / "examples/penguins/model.json").read_text())
    assert json.loads(index)["model"]["version"] == card["sha256"][:12]
