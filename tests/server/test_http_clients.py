"""HTTP clients in other languages, where they are installed: curl, Node.js, Java."""

import shutil
import subprocess
from pathlib import Path

import pytest

from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE

PROGRAMS = Path(__file__).parent / "programs"
ANSWER = f"200 {EXAMPLE_RESPONSE.decode()}"


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"needs {program}")


def run(*command, text=""):
    """Return what a program writes to its standard output; it must end with status 0."""
    process = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@needs("curl")
@pytest.mark.parametrize(
    "options",
    [
        ["--http1.0"],
        ["--http2"],  # asks for HTTP/2 with its first request
        ["--header", "Expect: 100-continue"],
        ["--header", "Transfer-Encoding: chunked"],
        ["--header", "Transfer-Encoding: chunked", "--http2"],
        ["--header", "Connection: close"],
    ],
    ids=" ".join,
)
def test_curl(service, options):
    """Both responses come on one connection, unless it wants none to stay open."""
    url = f"http://{service.address}/predict"
    request = ["--header", "Content-Type: application/json", "--data-binary", "@-", *options]
    form = ["--silent", "--show-error", "--write-out", "%{http_code} %{num_connects}\n"]
    text = EXAMPLE_REQUEST.decode()
    [body, first] = run("curl", *form, *request, url, text=text).splitlines()
    assert (f"{body}\n".encode(), first) == (EXAMPLE_RESPONSE, "200 1")

    request[3] = EXAMPLE_REQUEST.decode()
    lines = run("curl", *form, *request, url, url).splitlines()
    n_connects = 0
    if options in (["--http1.0"], ["--header", "Connection: close"]):
        n_connects = 1
    assert lines[1::2] == ["200 1", f"200 {n_connects}"]
    assert {f"{line}\n".encode() for line in lines[::2]} == {EXAMPLE_RESPONSE}


@needs("node")
def test_node(service):
    """Node.js sends bodies of known and of unknown length, and reuses a connection."""
    url = f"http://{service.address}/predict"
    output = run("node", PROGRAMS / "requests.mjs", url, EXAMPLE_REQUEST.decode())
    assert output == f"{ANSWER * 2}1 connection\n"


@needs("javac")
def test_java(service):
    """Java's client, which asks for HTTP/2, sends bodies of known and of unknown length."""
    url = f"http://{service.address}/predict"
    output = run("java", PROGRAMS / "Requests.java", url, EXAMPLE_REQUEST.decode())
    assert output == ANSWER * 3
