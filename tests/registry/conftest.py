"""A real MLflow server and moto's SageMaker, each started once, and models to register.

Run by `make test-registry`.
"""

import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from fixture_models import model_file
from helpers import environment, free_port, wait_until
from registries import BIN, digest, ignored_mlflow_warnings, main, read_files, register
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model

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

    def start(command, url, directory, environ=None):
        with (directory / "server.log").open("w") as log:
            # In a session of its own, so that its child processes end with it.
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
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
    """Return two directories with a classifier of the same data: a good one and a worse one."""
    good = model_file("iris").parent
    worse = tmp_path_factory.mktemp("worse")
    model = train_model("iris", load_iris_dataset(), build_worse_estimator, coefficient_decimals=9)
    write_model(worse / "model.pkl", model)
    return [good, worse]


def load_iris_dataset():
    return Dataset.from_sklearn(load_iris(), source="sklearn.datasets.load_iris")


def build_worse_estimator():
    return LogisticRegression(max_iter=200, solver="newton-cholesky", tol=1e-10, C=0.01)


@pytest.fixture(scope="session")
def registered(mlflow_server, trained):
    """Return the address of the server with the good model as version 1 of iris, the worse as 2."""
    for number, directory in enumerate(trained, 1):
        output = register(mlflow_server.url, directory / "model.pkl", "iris")
        version = digest(directory / "model.pkl")[:12]
        assert output == f"registered {version} as version {number} of iris\n"
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
            with ignored_mlflow_warnings():
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
