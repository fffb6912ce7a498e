"""The image, run as a cluster runs it. Needs docker or podman: `make image-test` says which, and which image."""

import http.client
import json
import os
import subprocess
import sys
import uuid

import pytest

from helpers import ANSWER, ARTICLE, JSON, ROOT, Client, over_http, wait_until

CONTAINER = os.environ.get("CONTAINER")
IMAGE = os.environ.get("IMAGE", "")
pytestmark = pytest.mark.skipif(not CONTAINER, reason="needs docker or podman: make image-test")
HARDENED = [
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "10001",
]


def container(*words):
    done = subprocess.run([CONTAINER, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inside(program):
    """Return what the image's Python prints for `program`."""
    return container("run", "--rm", *HARDENED, IMAGE, "python", "-c", program)


@pytest.fixture
def run():
    """Return a function that starts the image hardened, with one port published, and gives back its name, ready."""
    names = []

    def start(port, *command):
        names.append(f"flask-ml-model-test-{uuid.uuid4().hex[:8]}")
        publish = ["--publish", f"127.0.0.1:{port}:{port}"]
        container("run", "--detach", "--name", names[-1], *publish, *HARDENED, IMAGE, *command)
        wait_until(lambda: answers(port))
        return names[-1]

    yield start
    for name in names:
        container("rm", "--force", name)


def answers(port):
    try:
        return over_http(f"127.0.0.1:{port}", "GET", "/readyz").status == 200
    except http.client.HTTPException:  # a published port accepts before anyone listens behind it
        return False


def check(name):
    """Run the image's HEALTHCHECK in a container."""
    [image] = json.loads(container("image", "inspect", IMAGE))
    kind, *command = (image.get("Healthcheck") or image["Config"]["Healthcheck"])[
        "Test"
    ]  # as podman, as docker
    assert kind == "CMD"  # no shell
    container("exec", name, *command)


def test_the_entry_point_needs_no_shell():
    [image] = json.loads(container("image", "inspect", IMAGE))
    config = image["Config"]
    assert not config.get("Entrypoint")
    assert config["Cmd"] == ["gunicorn", "app:app"]
    assert (config["User"], config["WorkingDir"], list(config["ExposedPorts"])) == (
        "10001:10001",
        "/app",
        ["5000/tcp"],
    )


def test_only_the_named_files_are_inside_and_none_can_be_changed():
    listed = "import os; [print(os.path.join(d, f), os.access(d, os.W_OK)) for d, _, fs in os.walk('.') for f in fs]"
    files = dict(line.removeprefix("./").split() for line in inside(listed).splitlines())
    named = {"app.py", "gunicorn.conf.py", "model.pkl", "model.json"}
    rooms = {str(path.relative_to(ROOT)) for path in (ROOT / "serving").glob("*.py")}
    assert {name for name in files if "__pycache__" not in name} == named | rooms
    assert set(files.values()) == {"False"}
    assert (
        sum("__pycache__" in name for name in files) == len(rooms) + 2
    )  # bytecode of each, and of those at the top


def test_no_tool_is_inside():
    programs = ["gcc", "cc", "make", "git", "curl", "pytest"]
    assert inside(f"import shutil; print([x for x in {programs} if shutil.which(x)])") == "[]"
    modules = ["pip", "pytest", "hypothesis", "pandas", "yaml"]
    assert (
        inside(f"import importlib.util as u; print([x for x in {modules} if u.find_spec(x)])")
        == "[]"
    )


def test_the_contract_tests_pass_against_it(run):
    run(5000)
    tests = [
        sys.executable,
        "-m",
        "pytest",
        *(ROOT / "tests" / name for name in ("api/test_routes.py", "protocols")),
    ]
    done = subprocess.run(
        tests,
        env=os.environ | {"SERVICE_URL": "http://127.0.0.1:5000"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_it_turns_healthy_by_its_own_check(run):
    check(run(5000))


def test_serve_is_what_sagemaker_says_and_answers_on_its_port(run):
    name = run(8080, "serve")
    assert over_http("127.0.0.1:8080", "POST", "/predict", ARTICLE, JSON).body == ANSWER
    check(name)


def test_stopping_it_under_load_loses_nothing_and_ends_with_0(run):
    name = run(5000)
    clients = [Client("127.0.0.1:5000") for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.answers) > 20 for client in clients))
    container("kill", "--signal", "TERM", name)
    for client in clients:
        client.join(30)
    assert [client.fault for client in clients] == [None] * 4
    assert {answer for client in clients for answer in client.answers} == {ANSWER}
    assert container("wait", name) == "0"
