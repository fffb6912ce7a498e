"""A real MLflow server and moto's SageMaker, each started once, and models to register.

Run by `make test-registry`.
"""

import os
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression

from helpers import PROGRAM, ROOT, card_fields, environment, free_port, wait_until
from registries import BIN, change_training, digest, read_files, run_python
from serving.model.storage import save_model
from serving.registry.commands import main

START_TIMEOUT_SECONDS = 90


@dataclass
class MlflowServer:
    """A tracking server: its address and the directory of its artifacts."""

    url: str
    artifacts: Path


@pytest.fixture(scope="session")
def start_server():
    """Return a function that starts a server and waits for it; each is stopped at the end."""
    processes = []

    def start(command, url, directory):
        with (directory / "server.log").open("w") as log:
            # In a session of its own, so that its child processes end with it.
            process = subprocess.Popen(
                command, cwd=directory, stdout=log, stderr=log, start_new_session=True
            )
        processes.append(process)
        wait_until(
            lambda: urllib.request.urlopen(url, timeout=5).status == 200, START_TIMEOUT_SECONDS
        )

    yield start
    for process in processes:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="session")
def mlflow_server(start_server, tmp_path_factory):
    """Return a real MLflow server with SQLite and local artifacts."""
    directory = tmp_path_factory.mktemp("mlflow")
    artifacts = directory / "artifacts"
    port = free_port()
    command = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///mlflow.db"]
    command += ["--artifacts-destination", artifacts]
    url = f"http://127.0.0.1:{port}"
    start_server(command, f"{url}/health", directory)
    return MlflowServer(url, artifacts)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return two checkouts: one with train.py as it is, one that trains a worse model."""
    checkouts = []
    for name in ("good", "worse"):
        directory = tmp_path_factory.mktemp(name)
        for file in (*PROGRAM, "train.py"):
            copy = shutil.copytree if (ROOT / file).is_dir() else shutil.copy
            copy(ROOT / file, directory / file)
        checkouts.append(directory)
    change_training(checkouts[1], "max_iter=200, C=0.01")
    return checkouts


@pytest.fixture(scope="session")
def registered(mlflow_server, trained):
    """Return the address of the server with the good model as version 1 of iris, the worse as 2."""
    for number, directory in enumerate(trained, 1):
        status, output, errors = run_python(
            directory, "train.py", "--register", "iris", MLFLOW_TRACKING_URI=mlflow_server.url
        )
        assert status == 0, errors
        version = digest(directory / "model.pkl")[:12]
        assert output.splitlines()[-1] == f"registered {version} as version {number} of iris"
    return mlflow_server.url


@pytest.fixture(scope="session")
def amazon(start_server, tmp_path_factory):
    """Return the environment in which boto3 finds moto's S3 and SageMaker."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [BIN / "moto_server", "-H", "127.0.0.1", "-p", port]
    start_server(command, f"{url}/moto-api/", tmp_path_factory.mktemp("moto"))
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


@pytest.fixture
def run_registry(monkeypatch, capsys):
    """Return a function that runs `python -m serving.registry` with the model in a directory.

    It returns the status, the output and the errors.
    """

    def run_registry(directory, command, *arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        model_options = []
        if command in ("register", "pull", "push"):
            model_options = ["--model", str(directory / "model.pkl")]

        status = 0
        try:
            main([command, *arguments, *model_options])
        except SystemExit as exit_error:
            assert isinstance(exit_error.code, str)
            sys.stderr.write(f"{exit_error.code}\n")
            status = 1
        output, errors = capsys.readouterr()
        return status, output, errors

    return run_registry


@pytest.fixture
def assert_refused(run_registry):
    """Return a function that asserts that a command ends with one line and changes no file."""

    def assert_refused(directory, *arguments, contains, **variables):
        contents = read_files(directory)
        status, output, errors = run_registry(directory, *arguments, **variables)
        assert (status, output) == (1, "")
        [line] = errors.splitlines()
        assert contains in line
        assert read_files(directory) == contents

    return assert_refused


@pytest.fixture
def regression(tmp_path):
    """Return a directory with a model that has no classes and no accuracy."""
    X = load_iris().data
    estimator = LinearRegression().fit(X, X[:, 0])
    fields = card_fields(estimator) | {"metrics": {"r2": 0.9}}
    save_model(tmp_path / "model.pkl", estimator, reference=X[::50], **fields)
    return tmp_path


@dataclass
class Clone:
    """A clone of this repository, in which commands run with this environment's programs."""

    directory: Path

    def run(self, *command):
        """Run a command in the clone and return its output and errors; it must end with 0."""
        result = subprocess.run(
            command,
            cwd=self.directory,
            env=environment(
                self.directory,
                PATH=f"{BIN}:/usr/bin:/bin",
                HOME=str(self.directory.parent),
                DVC_GLOBAL_CONFIG_DIR=str(self.directory.parent),
            ),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout, result.stderr

    def dvc(self, *arguments):
        """Run dvc and return its output."""
        return self.run(BIN / "dvc", *arguments)[0]


@pytest.fixture
def working_clone(clone):
    """Return a clone in which commands can be run."""
    return Clone(clone)
