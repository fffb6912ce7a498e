"""A real gunicorn of `.venv` for the browser, whose environment has none of its packages."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
STOP_SECONDS = 40
JSON = {"Content-Type": "application/json"}

SCRIPTS = {
    "iris": ROOT / "tests/training/scripts/iris.py",
    "breast_cancer": ROOT / "examples/breast_cancer/train.py",
    "penguins": ROOT / "examples/penguins/train.py",
    "diabetes": ROOT / "examples/diabetes/train.py",
    "languages": ROOT / "examples/languages/train.py",
    "hostile": ROOT / "tests/browser/hostile.py",
    "kinds": ROOT / "tests/browser/kinds.py",
}


def train(name, directory):
    """Return the path of the model that a script trains in the service's environment."""
    path = directory / "model.pkl"
    command = [ROOT / ".venv/bin/python", SCRIPTS[name], "--output", path]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Service:
    """One service on a port of its own, which can be stopped and started again."""

    def __init__(self, model_path, log_path, **settings):
        self.model_path = model_path
        self.log_path = log_path
        self.settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self):
        variables = {"PATH": os.environ["PATH"], "PORT": str(self.port)}
        variables |= {"MODEL_PATH": str(self.model_path)} | self.settings
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                [ROOT / ".venv/bin/gunicorn", "app:app"], cwd=ROOT, env=variables, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while self.status("readyz") != 200:
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS) == 0

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def request(self, path, body=None, headers=JSON):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def status(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status
        except OSError:
            return None

    def predict(self, row, **members):
        return self.request("predict", {"features": row, **members})

    def errors(self):
        """Return the lines of the log that report an error."""
        return re.findall(r"^.*(?:Traceback|ERROR).*$", self.log_path.read_text(), re.MULTILINE)
