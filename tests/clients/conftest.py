"""A real gunicorn of `.venv`, for clients that live in an environment of their own, and a record of what they found."""

import json
import os
import re
import subprocess
import threading
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUND = []  # contract, client, what was tried, whether it went well


@pytest.fixture(scope="session")
def address():
    """Return host and port of a real gunicorn, which must end with status 0."""
    service = subprocess.Popen(
        [ROOT / ".venv/bin/gunicorn", "app:app"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PORT": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = []
    reader = threading.Thread(
        target=lambda: [log.append(line) for line in service.stderr], daemon=True
    )
    reader.start()
    deadline = time.monotonic() + 30
    while not (port := re.search(r"Listening at: http://[0-9.]+:([0-9]+)", "".join(log))):
        assert service.poll() is None and time.monotonic() < deadline, log
        time.sleep(0.05)
    yield f"127.0.0.1:{port[1]}"
    service.terminate()
    assert service.wait(40) == 0
    reader.join()
    service.stderr.close()
    assert not re.search("Traceback|ERROR", "".join(log)), log


@pytest.fixture(scope="session")
def told(address):
    """Return what the service says of itself."""
    return json.load(urllib.request.urlopen(f"http://{address}/"))["model"]


def claim(contract, client, what):
    """Mark a test as a line of the README's table."""
    return pytest.mark.claim(contract, client, what)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "claim(contract, client, what): a line of the README's table"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and (mark := item.get_closest_marker("claim")):
        contract, client, what = mark.args
        FOUND.append(
            (contract, f"{client} {version(client)}", what, "yes" if report.passed else "no")
        )
    return report


def pytest_terminal_summary(terminalreporter):
    for line in FOUND:
        terminalreporter.write_line(f"| {' | '.join(line)} |")
