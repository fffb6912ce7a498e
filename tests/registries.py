"""Programs, files and commands that the tests of the registries share."""

import hashlib
import io
import subprocess
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from helpers import environment

# MLflow warns about types of its own while it is imported.
with warnings.catch_warnings(action="ignore"):
    from serving.registry.commands import main

BIN = Path(sys.executable).parent
FILE_NAMES = ("model.pkl", "model.json")

# An owner's train.py with another estimator. The original is imported under another name.
OTHER_TRAINING = """
from pathlib import Path

from original_train import NAME, load_data
from serving.training.command import train
from sklearn.dummy import {estimator}

train(NAME, load_data, {estimator}, output=Path(__file__).with_name("model.pkl"))
"""

ESTIMATORS = {"classifier": "DummyClassifier", "regressor": "DummyRegressor"}


def change_training(directory, task):
    """Make train.py in `directory` train an estimator that does not look at the features."""
    script = directory / "train.py"
    script.rename(directory / "original_train.py")
    script.write_text(OTHER_TRAINING.format(estimator=ESTIMATORS[task]))


@contextmanager
def ignored_mlflow_warnings():
    """Ignore the warnings of MLflow's own code, such as that it uses pandas in an old way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        yield


def register(url, path, name):
    """Register the model in `path` on the server at `url` and return what the command prints."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), ignored_mlflow_warnings():
        patch.setenv("MLFLOW_TRACKING_URI", url)
        main(["register", name, "--model", str(path)])
    return output.getvalue()


def run_python(directory, *arguments, **variables):
    """Run Python in `directory` and return its status, its output and its errors."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment(directory, **variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout, result.stderr


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_files(directory):
    """Return the bytes of each file in `directory` by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
