"""Programs without their packages: one line with the task that installs them."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

# The first package that is missing depends on the model that is trained.
LINES = {
    "app.py": r"app\.py needs flask: run `make run`\n",
    "train.py": r"train\.py needs \w+: run `make install`, then \.venv/bin/python\n",
    "batch.py": r"batch\.py needs \w+: run `make install-batch`, then \.venv-batch/bin/python\n",
}
REGISTRY_LINE = r"the registry needs \w+: make install-registry, then \.venv-registry/bin/python\n"

# What the command `flask` itself imports.
FLASK_PACKAGES = (
    "blinker",
    "click",
    "flask",
    "itsdangerous",
    "jinja2",
    "markupsafe",
    "werkzeug",
)

RUN_FLASK = """
import sys
sys.path.insert(0, sys.argv[1])
from flask.cli import main
sys.argv[:] = ["flask", "--app", "app", "run", "--port", "0"]
main()
"""


def read_only_line(*words):
    """Return the errors of an interpreter that has the standard library alone, and status 1."""
    command = [sys.executable, "-S", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    return result.stderr


@pytest.mark.parametrize(("program", "line"), LINES.items())
@pytest.mark.parametrize("options", [[], ["--help"]], ids=["", "--help"])
def test_program_names_make_target(program, line, options):
    """A program ends with one line instead of a traceback."""
    assert re.fullmatch(line, read_only_line(program, *options))


def test_registry_names_make_target():
    """The command line of the registry ends with one line as well."""
    assert re.fullmatch(REGISTRY_LINE, read_only_line("-m", "serving.registry", "list"))


def test_flask_command_names_make_target(tmp_path):
    """Where only Flask is installed, its command ends with one line."""
    for name in FLASK_PACKAGES:
        package = importlib.import_module(name)
        (tmp_path / name).symlink_to(Path(package.__file__).parent)

    errors = read_only_line("-c", RUN_FLASK, tmp_path)
    assert re.fullmatch(r"app\.py needs \w+: run `make run`\n", errors)
