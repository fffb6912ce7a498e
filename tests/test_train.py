"""The model that the repository ships: its files belong together, whatever model it is."""

import re
import subprocess
import sys

import pytest

from helpers import ROOT
from serving.model.loading import load_model


def train(*options, **process):
    command = [sys.executable, ROOT / "train.py", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **process)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the directory with what train.py writes."""
    directory = tmp_path_factory.mktemp("trained")
    result = train("--output", directory / "model.pkl", "--held-out", directory / "held_out.csv")
    assert (result.returncode, result.stderr) == (0, "")
    return directory


def test_committed_model_came_from_this_script(trained):
    """The committed files belong together and are what train.py writes."""
    committed = load_model(ROOT / "model.pkl").card
    written = load_model(trained / "model.pkl").card
    # What depends on chance, such as a forest without a seed, may differ.
    for name in ("name", "task", "input", "rows", "data", "features"):
        assert getattr(committed, name) == getattr(written, name)
    committed_classes = [(found.value, found.label) for found in committed.classes]
    assert committed_classes == [(found.value, found.label) for found in written.classes]


def test_register_without_mlflow_names_make_target(tmp_path):
    """--register needs another environment: one line says so before anything is trained."""
    result = train("--output", tmp_path / "model.pkl", "--register", "iris", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    message = r"the registry needs \w+: make install-registry, then \.venv-registry/bin/python\n"
    assert re.fullmatch(message, result.stderr)
    assert not (tmp_path / "model.pkl").exists()


def test_registry_without_mlflow_names_make_target():
    """The command line prints the same line; an import raises ImportError and ends nothing."""
    message = r"the registry needs \w+: make install-registry, then \.venv-registry/bin/python\n"
    command = [sys.executable, "-m", "serving.registry", "list", "iris"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(message, result.stderr)

    command = [sys.executable, "-c", "import serving.registry.commands"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert re.search(f"^ImportError: {message}$", result.stderr, re.MULTILINE)
