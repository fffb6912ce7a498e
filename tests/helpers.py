"""Helpers that tests of several packages share."""

import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from fixture_models import model_file
from serving.model.card import ClassInfo, FeatureInfo

ROOT = Path(__file__).parent.parent

JSON = {"Content-Type": "application/json"}

PROGRAM = ("app.py", "gunicorn.conf.py", "serving")

EXAMPLE_REQUEST = b'{"features":[5.1, 3.5, 1.4, 0.2]}'


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def over_http(
    address: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def in_process(
    app: Any, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    with app.test_client() as client:
        response = client.open(path, method=method, data=body, headers=headers, buffered=True)
        return Answer(response.status_code, dict(response.headers), response.data)


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
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stderr=subprocess.PIPE, text=True
        )
        self.log = ""
        self.requested_port = env["PORT"]
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
        match = re.search(r"(?:Listening at:|Running on) http://[^ ,]+:([0-9]+)", self.log)
        if match:
            return match[1]
        if self.requested_port != "0":
            return self.requested_port
        return ""

    def call(self, *request: Any) -> Answer:
        return over_http(self.address, *request)

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

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


def environment(cwd: Path = ROOT, **names: str) -> dict[str, str]:
    """Return an environment in which a process finds its libraries, without HOME.

    In this repository it serves MODEL_FILE, in a copy the model there.
    """
    variables = {"PATH": os.environ["PATH"], "PORT": "0"}
    if cwd == ROOT:
        variables["MODEL_PATH"] = str(MODEL_FILE)
    return variables | names


def git(directory: Path, *words: str) -> None:
    """Run git, as somebody."""
    somebody = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    subprocess.run(["git", "-C", directory, *somebody, *words], check=True)


# The model of most tests, so that the shipped one can be any.
MODEL_FILE = model_file("iris")

VERSION = hashlib.sha256(MODEL_FILE.read_bytes()).hexdigest()[:12]

NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]

SETOSA = [5.1, 3.5, 1.4, 0.2]

VIRGINICA = [6.3, 3.3, 6.0, 2.5]


def assert_json(answer, status, members):
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert answer.json == members
    assert answer.body.count(b"\n") == 1 and answer.body.endswith(b"\n")
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def predict(call, **members):
    return call("POST", "/predict", msgspec.json.encode(members), JSON)


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def card_fields(estimator):
    classes = getattr(estimator, "classes_", ())
    return {
        "name": "test",
        "features": [
            FeatureInfo(name=name, unit="cm", minimum=0, maximum=1, edges=[0, 1], shares=[1])
            for name in "abcd"
        ],
        "classes": [ClassInfo(c, f"class {c}", 0.5) for c in classes.tolist()]
        if isinstance(classes, np.ndarray)
        else [],
        "rows": 1,
        "metrics": {},
        "data": {},
    }


def scrape(call):
    """Return each sample as {(name, its labels in the order of their names): value}."""
    answer = call("GET", "/metrics")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    samples = [
        s for family in text_string_to_metric_families(answer.body.decode()) for s in family.samples
    ]
    found = {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}
    assert len(found) == len(samples)
    return found


EXAMPLE_RESPONSE = b'{"prediction":[0]}\n'


class Client(threading.Thread):
    """Send requests on one connection until a response announces that it will be closed."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(address, timeout=30)
        self.answers = []
        self.fault = None

    def run(self):
        try:
            closing = None
            while closing != "close":
                self.connection.request("POST", "/predict", EXAMPLE_REQUEST, JSON)
                response = self.connection.getresponse()
                closing = response.getheader("Connection")
                self.answers.append(response.read())
        except OSError as error:
            self.fault = error
        finally:
            self.connection.close()


def half_sent(address, cut=-5):
    """Return a connection on which all of a request but its end was sent."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.putrequest("POST", "/predict")
    for name, value in (JSON | {"Content-Length": str(len(EXAMPLE_REQUEST))}).items():
        connection.putheader(name, value)
    connection.endheaders(EXAMPLE_REQUEST[:cut])
    return connection
