"""The systemd unit of docs/deployment.md: valid, started with its command, stopped in time."""

import configparser
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT, environment, free_port, over_http, wait_until

DIRECTORY = "/opt/flask-ml-model"
DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()
[UNIT] = re.findall(r"```ini\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(UNIT)
    return parser


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path):
    """Systemd finds nothing wrong with the unit, once its program exists."""
    path = tmp_path / "ml-model.service"
    path.write_text(UNIT.replace(f"{DIRECTORY}/.venv/bin/gunicorn", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_service_notifies_and_stops_within_the_limit(unit, tmp_path):
    """Gunicorn says when it is ready, as Type=notify needs, and ends before systemd kills it."""
    assert unit["Service"]["Type"] == "notify"
    variables = dict(word.split("=") for word in unit["Service"]["Environment"].split())
    port = free_port()
    variables |= {"PORT": str(port), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program == f"{DIRECTORY}/.venv/bin/gunicorn"

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(variables["NOTIFY_SOCKET"])
        notifications.settimeout(60)
        gunicorn = Path(sys.executable).parent / "gunicorn"
        process = subprocess.Popen(
            [gunicorn, *arguments], cwd=ROOT, env=environment(**variables), stderr=subprocess.PIPE
        )
        try:
            assert b"READY=1" in notifications.recv(1000)
            wait_until(lambda: over_http(f"127.0.0.1:{port}", "GET", "/readyz").status == 200)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0


def test_container_has_the_settings_of_the_unit(unit):
    """The containers for a device have as many workers and as much memory as the unit."""
    command, edge_command = re.findall(r"\$ docker run --detach --restart (.*)", DOCUMENT)
    assert edge_command == f"{command}-edge"
    words = shlex.split(command)
    assert words[words.index("--env") + 1] in unit["Service"]["Environment"].split()
    assert words[words.index("--memory") + 1].upper() == unit["Service"]["MemoryMax"]
    assert "EXPOSE 5000" in (ROOT / "Dockerfile").read_text()
    assert words[words.index("--publish") + 1].endswith(":5000")


def test_grace_period_is_longer_than_gunicorns(unit):
    """Systemd waits longer than the workers may take for their last requests."""
    settings = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    assert int(unit["Service"]["TimeoutStopSec"]) > settings["graceful_timeout"]
    assert unit["Service"]["KillMode"] == "mixed"  # the workers are told by gunicorn
