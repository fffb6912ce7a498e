"""Fixtures that all tests share: a call to the service, a real gunicorn, copies of the program."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app import create_app
from helpers import (
    MODEL_FILE,
    PROGRAM,
    ROOT,
    Service,
    environment,
    git,
    gunicorn,
    in_process,
    over_http,
    wait_until,
)

# What `create_app()` loads in this process.
os.environ["MODEL_PATH"] = str(MODEL_FILE)

# These have environments of their own: make test-browser, test-clients, test-registry, test-batch.
collect_ignore = ["browser", "clients"]
if not importlib.util.find_spec("mlflow"):
    collect_ignore += ["registry"]
if not importlib.util.find_spec("distributed"):
    collect_ignore += ["batch", "batches.py", "streams", "consumers.py", "kafka_cluster.py"]


@pytest.fixture(scope="session")
def call() -> Any:
    """Return a function of method, path, body and headers that answers as the service does."""
    if url := os.environ.get("SERVICE_URL"):
        address = urlsplit(url).netloc
        wait_until(lambda: over_http(address, "GET", "/readyz").status == 200)
        return lambda *request: over_http(address, *request)
    app = create_app()
    return lambda *request: in_process(app, *request)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Return a function that starts a service; each service must end with status 0."""
    started: list[Service] = []

    def start(cwd: Path = ROOT, command: list[str] | None = None, **names: str) -> Service:
        started.append(Service(command or gunicorn(), cwd, environment(cwd, **names)))
        return started[-1]

    yield start
    assert [service.stop() for service in started] == [0] * len(started)


@pytest.fixture
def checkout(tmp_path):
    """Return a directory with a copy of what serves, and nothing else."""
    target = tmp_path / "checkout"
    target.mkdir()
    for name in PROGRAM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)
    for path in (MODEL_FILE, MODEL_FILE.with_suffix(".json")):
        shutil.copy(path, target)
    return target


@pytest.fixture
def clone(tmp_path):
    """Return a clone with one commit, of what is tracked here as it is now."""
    target = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    git(target, "init", "--quiet")
    git(target, "add", "--all")
    git(target, "commit", "--quiet", "--message", "As it is")
    return target
