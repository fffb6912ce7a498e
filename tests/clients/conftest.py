"""A real gunicorn of `.venv` for clients in an environment of their own, and the table of results.

`make test-clients` runs these tests. Nothing of ours is between a client and the service.
"""

import json
import os
import queue
import re
import subprocess
import threading
import urllib.request
from contextlib import contextmanager
from importlib.metadata import version

import pytest

from clients.examples import ROOT

START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 40
LISTENING = re.compile("Listening at: http://[^ ,]+:([0-9]+)")

RESULTS = []  # rows of the documented table: protocol, client, what was tried, yes or no


def train(script, directory):
    """Return the path of the model that a script trains in the service's environment."""
    path = directory / "model.pkl"
    command = [ROOT / ".venv/bin/python", script, "--output", path]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return path


@contextmanager
def run_service(model_path):
    """Yield host and port of a real gunicorn, which must end with status 0 and log no error."""
    process = subprocess.Popen(
        [ROOT / ".venv/bin/gunicorn", "app:app"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PORT": "0", "MODEL_PATH": str(model_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = []
    ports = queue.SimpleQueue()

    def read_log():
        for line in process.stderr:
            log.append(line)
            if match := LISTENING.search(line):
                ports.put(match[1])
        ports.put(None)

    reader = threading.Thread(target=read_log, daemon=True)
    reader.start()
    port = ports.get(timeout=START_TIMEOUT_SECONDS)
    assert port, "".join(log)
    yield f"127.0.0.1:{port}"

    process.terminate()
    assert process.wait(STOP_TIMEOUT_SECONDS) == 0
    reader.join()
    process.stderr.close()
    assert not re.search("Traceback|ERROR", "".join(log)), "".join(log)


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Return host and port of a service for iris, a model of numbers."""
    script = ROOT / "tests/training/scripts/iris.py"
    with run_service(train(script, tmp_path_factory.mktemp("iris"))) as served:
        yield served


@pytest.fixture(scope="session")
def penguins_model(tmp_path_factory):
    """Return the path of the model of examples/penguins: numbers, strings and missing values."""
    return train(ROOT / "examples/penguins/train.py", tmp_path_factory.mktemp("penguins"))


@pytest.fixture(scope="session")
def penguins_address(penguins_model):
    """Return host and port of a service for the penguins."""
    with run_service(penguins_model) as served:
        yield served


@pytest.fixture(scope="session")
def model(address):
    """Return name, version, features and classes of the model that the service reports."""
    with urllib.request.urlopen(f"http://{address}/") as response:
        return json.load(response)["model"]


@pytest.fixture(scope="session")
def results():
    """Return the rows of the documented table, so far."""
    return RESULTS


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "claim(protocol, client, what): a row of the documented table of clients"
    )


def pytest_collection_modifyitems(items):
    """Run the comparison with the documented table last."""
    items.sort(key=lambda item: item.path.name == "test_documented_table.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    claim = item.get_closest_marker("claim")
    if claim and call.when == "call":
        protocol, client, what = claim.args
        passed = "yes" if report.passed else "no"
        RESULTS.append((protocol, f"{client} {version(client)}", what, passed))
    return report


def pytest_terminal_summary(terminalreporter):
    for row in dict.fromkeys(RESULTS):
        terminalreporter.write_line(f"| {' | '.join(row)} |")
