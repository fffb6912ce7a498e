"""`make demo` from start to end: what it announces is seen on the page, and nothing is left."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from playwright.sync_api import expect

from browser.services import ROOT, SCRIPTS, free_port

TIMEOUT = 90_000  # milliseconds
END_SECONDS = 120


class DemoProcess:
    """The demo in a session of its own, as on a terminal, on a port of its own."""

    def __init__(self, checkout, directory, seconds):
        self.port = free_port()
        self.url = f"http://localhost:{self.port}/"
        program = [ROOT / ".venv/bin/python", "-m", "demo", "--seconds", str(seconds)]
        self.process = subprocess.Popen(
            # What a shell starts in the background ignores SIGINT, and so would the demo.
            ["env", "--default-signal=INT", *program],
            cwd=checkout,
            env={"PATH": "/usr/bin:/bin", "PORT": str(self.port), "TMPDIR": str(directory)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.text = ""

    def read_until(self, pattern):
        while not re.search(pattern, self.text):
            line = self.process.stdout.readline()
            assert line, self.text
            self.text += line

    def end(self):
        status = self.process.wait(END_SECONDS)
        self.text += self.process.stdout.read()
        self.process.stdout.close()
        return status

    def wait_for_service(self):
        """Return once the first service is a process."""
        while not self._pgrep("--full", "gunicorn"):
            assert self.process.poll() is None
            time.sleep(0.01)

    def has_ended(self):
        return not self._pgrep()

    def _pgrep(self, *words):
        command = ["pgrep", "--session", str(self.process.pid), *words]
        return subprocess.run(command, capture_output=True, check=False).stdout


@pytest.fixture
def checkout(tmp_path, model_path):
    """Return a copy of what the demo needs, for iris, whatever model an owner serves."""
    target = tmp_path / "checkout"
    target.mkdir()
    for name in ("serving", "demo"):
        shutil.copytree(ROOT / name, target / name)
    for name in ("app.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, target)
    shutil.copy(SCRIPTS["iris"], target / "train.py")
    shutil.copy(model_path("iris"), target)
    shutil.copy(model_path("iris").with_suffix(".json"), target)
    return target


@pytest.fixture
def start_demo(checkout, tmp_path):
    """Return a function that starts the demo, which must leave no file."""
    started = []
    directory = tmp_path / "tmp"
    directory.mkdir()

    def start(seconds):
        started.append(DemoProcess(checkout, directory, seconds))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            demo.process.wait(60)
    assert list(directory.iterdir()) == []


def percent(locator):
    return float(locator.inner_text().removesuffix(" %"))


def test_demo_is_seen_on_the_page(start_demo, visit):
    """The page turns from quiet to drifting, accuracy falls, and a new version is offered."""
    demo = start_demo(seconds=6)
    demo.read_until("Open http")
    page = visit(demo)
    quality = page.locator("#quality")
    expect(page.locator("#verdict")).to_have_text("quiet", timeout=TIMEOUT)
    demo.read_until("verdict: quiet")
    before = percent(quality)

    expect(page.locator("#verdict")).to_have_text("drifting", timeout=TIMEOUT)
    demo.read_until("verdict: drifting")
    page.wait_for_function(
        "before => parseFloat(document.querySelector('#quality').textContent) < before - 5",
        arg=before,
    )

    button = page.get_by_role("button", name="Show it")
    button.click(timeout=TIMEOUT)
    demo.read_until("version [0-9a-f]{12} is served")
    [second] = re.findall("version ([0-9a-f]{12}) is served", demo.text)
    expect(page.locator("header code")).to_have_text(second)
    page.close()

    assert demo.end() == 0, demo.text
    assert "100% of the requests to B: B scored 300 rows" in demo.text
    scored = re.search(
        r"10% of the requests to B: A scored (\d+) rows, B scored (\d+) rows", demo.text
    )
    assert int(scored[1]) > int(scored[2]) > 0
    assert demo.text.endswith("no file is left.\n")
    assert demo.has_ended()


@pytest.mark.parametrize("line", ["Model A is", "1. Rows like"])
def test_interrupted_demo_is_quiet(start_demo, line):
    """Ctrl-C ends every process, without a traceback: while services start, and at a request."""
    demo = start_demo(seconds=60)
    demo.read_until(line)
    if line == "Model A is":
        demo.wait_for_service()
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does
    assert demo.end() == 0, demo.text
    assert demo.text.endswith("\nStopped.\n")
    assert "Traceback" not in demo.text
    assert demo.has_ended()
