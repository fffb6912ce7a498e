"""Fixtures of the server tests: services that several tests share, and closed connections."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connections import OPENED
from helpers import ROOT, Service, environment, gunicorn

APPS = Path(__file__).parent / "apps"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Close the connections of a test before its services stop, which would wait for them."""
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """Return a service with one worker, for the tests that leave it as it was."""
    running = Service(gunicorn(), ROOT, environment(WEB_CONCURRENCY="1"))
    yield running
    assert running.stop() == 0
    assert "ERROR" not in running.log
    assert "Traceback" not in running.log


def run_app(target: str, **names: str) -> Service:
    """Return a service with one worker for an application in tests/server/apps."""
    command = [sys.executable, "-m", "gunicorn", target]
    return Service(command, ROOT, environment(WEB_CONCURRENCY="1", PYTHONPATH=str(APPS), **names))


@pytest.fixture(scope="session")
def wsgi_hold_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a file; while it exists, `/held` of the WSGI application goes on."""
    return tmp_path_factory.mktemp("wsgi") / "hold"


@pytest.fixture(scope="session")
def wsgi(wsgi_hold_file: Path) -> Iterator[Service]:
    """Return a service for the WSGI application with unusual responses."""
    running = run_app("wsgi_app:app", HOLD_FILE=str(wsgi_hold_file))
    yield running
    assert running.stop() == 0
    assert "Exception in callback" not in running.log


@pytest.fixture
def start_app() -> Iterator[Callable[..., Service]]:
    """Return a function that starts an application; each must end with status 0."""
    started: list[Service] = []

    def start(target: str, **names: str) -> Service:
        started.append(run_app(target, **names))
        return started[-1]

    yield start
    assert [running.stop() for running in started] == [0] * len(started)
