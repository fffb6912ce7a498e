"""The service on a terminal: one line to act on, readable requests, a quiet end; a port in use."""

import os
import re
import signal
import socket
import subprocess

import pytest

from helpers import EXAMPLE_REQUEST, JSON, ROOT, VERSION, environment, free_port, gunicorn
from helpers import over_http as request

READY = re.compile(
    rf"\d\d:\d\d:\d\d INFO iris {VERSION}: open http://localhost:(\d+) \(Ctrl-C stops it\)"
)


class Terminal:
    """A service whose stderr is a terminal."""

    def __init__(self, **variables):
        self.text = ""
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            gunicorn(), cwd=ROOT, env=environment(**variables), stderr=slave, start_new_session=True
        )
        os.close(slave)

    def read_until(self, pattern):
        while not (match := re.search(pattern, self.text)):
            self.text += os.read(self.master, 9999).decode()
        return match

    def interrupt(self):
        """Send what Ctrl-C sends, to every process of the service, and return the status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(30)

    def read_rest(self):
        try:
            while data := os.read(self.master, 9999):
                self.text += data.decode()
        except OSError:  # the last process has closed the terminal
            pass
        return self.text

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def start():
    """Return a function that starts a service on a terminal."""
    started = []

    def start_terminal(**variables):
        started.append(Terminal(**variables))
        return started[-1]

    yield start_terminal
    for terminal in started:
        terminal.close()


def test_terminal_has_one_line_to_act_on(start):
    """The service says which model it serves, where to look and how to stop, and ends quietly."""
    terminal = start()
    port = terminal.read_until(READY)[1]
    assert request(f"127.0.0.1:{port}", "GET", "/healthz").status == 200
    assert terminal.interrupt() == 0
    assert READY.fullmatch(terminal.read_rest().strip())


def test_terminal_has_path_and_reason(start):
    """A request has its path, and the reason if it is refused, without control characters."""
    terminal = start()
    address = f"127.0.0.1:{terminal.read_until(READY)[1]}"
    request(address, "POST", "/predict", EXAMPLE_REQUEST, JSON)
    request(address, "POST", "/predict", b'{"features":[1]}', JSON)
    request(address, "GET", "/%1b[31m%0ared")
    terminal.read_until("red.*Not Found")
    assert terminal.interrupt() == 0

    lines = [re.sub(r" in [\d.]+ ms", "", line[9:]) for line in terminal.read_rest().splitlines()]
    assert lines[1:] == [
        "INFO POST /predict 200",
        "INFO POST /predict 400: Expected 4 numbers, got 1 - at `$.features`",
        r"INFO GET /\x1b[31m\nred 404: GET /\x1b[31m\nred: Not Found",
    ]


def test_early_interrupt_is_quiet(start, tmp_path):
    """Ctrl-C while the model is loaded prints nothing."""
    model_path = tmp_path / "model.pkl"
    os.mkfifo(model_path)
    terminal = start(MODEL_PATH=str(model_path))
    with model_path.open("wb"):  # as soon as the service reads it
        assert terminal.interrupt() == -signal.SIGINT
    assert terminal.read_rest() == ""


@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_port_in_use_is_one_line(name):
    """A port in use ends the process at once, with the setting that chooses another one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        variables = environment(**{"PORT": free_port()} | {name: str(port)})
        result = subprocess.run(gunicorn(), cwd=ROOT, env=variables, capture_output=True, text=True)
    assert result.returncode == 1
    message = result.stderr.splitlines()[-1]
    assert message.startswith(f"port {port}: ")
    assert message.endswith(f"choose another one, such as {name}=8000 make run")
    assert "Connection in use" not in result.stderr
