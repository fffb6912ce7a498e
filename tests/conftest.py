"""What tests share: a call to the service, in this process or wherever SERVICE_URL says, and a real gunicorn."""

import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from app import create_app

ROOT = Path(__file__).parent.parent
# These have environments of their own: make test-clients, make test-registry, make test-batch.
collect_ignore = ["clients"]
if not importlib.util.find_spec("mlflow"):
    collect_ignore += ["test_dvc.py", "test_life.py", "test_registry.py"]
if not importlib.util.find_spec("distributed"):
    collect_ignore += ["test_batch.py", "test_batch_cluster.py"]
JSON = {"Content-Type": "application/json"}
PROGRAM = ("app.py", "gunicorn.conf.py", "model.pkl", "model.json", "serving")
ARTICLE = b'{"features":[5.1, 3.5, 1.4, 0.2]}'


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def over_http(address: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def in_process(app: Any, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    with app.test_client() as client:
        response = client.open(path, method=method, data=body, headers=headers, buffered=True)
        return Answer(response.status_code, dict(response.headers), response.data)


@pytest.fixture(scope="session")
def call() -> Any:
    """Return a function of method, path, body and headers that answers as the service does."""
    if url := os.environ.get("SERVICE_URL"):
        address = urlsplit(url).netloc
        wait_until(lambda: over_http(address, "GET", "/readyz").status == 200)
        return lambda *request: over_http(address, *request)
    app = create_app()
    return lambda *request: in_process(app, *request)


def wait_until(true: Any, seconds: float = 30) -> None:
    """Return when `true()` is; an OSError is a no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


class Service:
    """The service as a process of its own, on a free port, ready."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stderr=subprocess.PIPE, text=True)
        self.log = ""
        self.asked = env["PORT"]
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        wait_until(lambda: self._port() or self.process.poll() is not None)
        assert self._port(), f"exit {self.process.poll()}: {self.log}"
        self.address = f"127.0.0.1:{self._port()}"
        wait_until(lambda: self.call("GET", "/readyz").status == 200)

    def _read(self) -> None:
        for line in self.process.stderr:
            self.log += line

    def _port(self) -> str:
        found = re.search(r"(?:Listening at:|Running on) http://[0-9.]+:([0-9]+)", self.log)
        return found[1] if found else self.asked if self.asked != "0" else ""

    def call(self, *request: Any) -> Answer:
        return over_http(self.address, *request)

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=40)
        finally:
            self.process.kill()
            self.reader.join()
            self.process.stderr.close()


def gunicorn(*prefix: str) -> list[str]:
    return [*prefix, sys.executable, "-m", "gunicorn", "app:app"]


def environment(**names: str) -> dict[str, str]:
    """Return what a process needs to find its libraries, and nothing of the developer's, HOME included."""
    return {"PATH": os.environ["PATH"], "PORT": "0"} | names


@pytest.fixture
def serve() -> Iterator[Any]:
    """Return a function that starts the service and gives it back, ready; each must end with status 0."""
    started: list[Service] = []

    def start(cwd: Path = ROOT, command: list[str] | None = None, **names: str) -> Service:
        started.append(Service(command or gunicorn(), cwd, environment(**names)))
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
    return target


@pytest.fixture
def clone(tmp_path):
    """Return a clone with one commit, of what is tracked here as it is now."""
    target = tmp_path / "clone"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    git(target, "init", "--quiet")
    git(target, "add", "--all")
    git(target, "commit", "--quiet", "--message", "As it is")
    return target


def git(directory: Path, *words: str) -> None:
    """Run git, as somebody."""
    somebody = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    subprocess.run(["git", "-C", directory, *somebody, *words], check=True)
