"""Fixtures of the server tests."""

import sys
from pathlib import Path

import pytest

from connections import OPENED
from helpers import (
    ROOT,
    Service,
    environment,
)

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="module")
def service():
    """Return one service for the tests that leave it as it was."""
    running = Service([sys.executable, "-m", "gunicorn", "app:app"], ROOT, environment())
    yield running
    assert running.stop() == 0
    assert "ERROR" not in running.log


@pytest.fixture(autouse=True)
def closing():
    """Close what a test opened, and did not close itself."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def wsgi(checkout):
    def start(name="app"):
        command = [sys.executable, "-m", "gunicorn", f"wsgi_app:{name}"]
        running = Service(
            command, checkout, environment(checkout, WEB_CONCURRENCY="1", PYTHONPATH=str(APPS))
        )
        started.append(running)
        return running

    started = []
    yield start
    assert [running.stop() for running in started] == [0] * len(started)
