"""The services of the demo: processes of `gunicorn app:app`, and requests to them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
STOP_SECONDS = 40
# One worker, so that a reload is seen at once.
SETTINGS = {"WEB_CONCURRENCY": "1", "LOG_LEVEL": "error", "API_KEYS": "", "METRICS_PORT": ""}


class DemoError(Exception):
    """A reason to end the demo, in one line."""


def call(url: str, body: Any = None) -> tuple[Any, str]:
    """Return the JSON of a response, and the version of the model that answered."""
    data = None
    if body is not None:
        data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our own address
        return json.load(response), response.headers.get("X-Model-Version", "")


class Service:
    """One service for a copy of a model, in a process of its own."""

    def __init__(self, port: int, model_path: Path, directory: Path) -> None:
        self.url = f"http://localhost:{port}"
        self.model_path = directory / "model.pkl"
        directory.mkdir()
        copy_model(model_path, self.model_path)

        variables = os.environ | SETTINGS
        variables |= {"PORT": str(port), "MODEL_PATH": str(self.model_path)}
        # In a group of its own: Ctrl-C ends the demo, which ends the service, and not both at once.
        # A service that is interrupted while it starts would print a traceback.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, env=variables, process_group=0
        )
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self) -> None:
        """Return once the service answers. Raises DemoError if it ends before."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise DemoError("the service has not started")
            try:
                call(f"{self.url}/readyz")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise DemoError("the service does not answer")

    def version(self) -> str:
        """Return the version of the model that is served."""
        return call(f"{self.url}/readyz")[1]

    def load(self, model_path: Path, version: str) -> None:
        """Replace the files of the model, reload, and return once `version` is served."""
        copy_model(model_path, self.model_path)
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_SECONDS
        while self.version() != version:
            if time.monotonic() > deadline:
                raise DemoError(f"version {version} was not loaded")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the service, and let it finish what it has begun."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(STOP_SECONDS)


def copy_model(source: Path, target: Path) -> None:
    """Copy a model file with its card."""
    shutil.copy(source, target)
    shutil.copy(source.with_suffix(".json"), target.with_suffix(".json"))
