"""The image, run as a cluster runs it. `make image-test` sets CONTAINER and IMAGE."""

import http.client
import json
import os
import shlex
import subprocess
import sys
import uuid

import pytest

from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE, JSON, ROOT, Client, over_http, wait_until

CONTAINER = os.environ.get("CONTAINER")

IMAGE = os.environ.get("IMAGE", "")

pytestmark = pytest.mark.skipif(not CONTAINER, reason="needs docker or podman: make image-test")

BUILD_ARGS = shlex.split(os.environ.get("BUILD_ARGS", ""))

# With a user of the cluster's choice, as on OpenShift, instead of the image's.
HARDENED = shlex.split(
    "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --user 1000770000:0"
)

LIST_FILES = """
import os
for folder, _, names in os.walk("."):
    for name in names:
        path = os.path.join(folder, name)
        print(path, os.access(path, os.W_OK))
"""


DIGEST_FILES = """
import hashlib, os, stat
for top in ("/venv", "/app"):
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            mode = stat.filemode(os.lstat(path).st_mode)
            content = open(path, "rb").read()
            print(path, mode, hashlib.sha256(content).hexdigest())
"""


def run_engine(*arguments, timeout=120):
    """Run the container engine and return what it prints."""
    command = [CONTAINER, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def run_python(program, image=IMAGE):
    """Return what an image's Python prints for `program`."""
    return run_engine("run", "--rm", *HARDENED, image, "python", "-c", program)


def inspect_image():
    [image] = json.loads(run_engine("image", "inspect", IMAGE))
    return image


@pytest.fixture(scope="module")
def edge_image():
    """Return the image of the stage `edge`, for a model that it can serve."""
    card = json.loads((ROOT / "model.json").read_text())
    if not card.get("prediction_plan", {}).get("kind"):
        pytest.skip("the model has no prediction plan")

    name = f"{IMAGE}-edge"
    command = ["build", "--quiet", *BUILD_ARGS, "--target", "edge", "--tag", name, str(ROOT)]
    run_engine(*command, timeout=600)
    return name


@pytest.fixture
def start_container():
    """Return a function that starts an image, hardened, and returns its name when it is ready."""
    names = []

    def start(port, *command, image=IMAGE):
        name = f"flask-ml-model-test-{uuid.uuid4().hex[:8]}"
        names.append(name)
        publish = ["--publish", f"127.0.0.1:{port}:{port}"]
        run_engine("run", "--detach", "--name", name, *publish, *HARDENED, image, *command)
        wait_until(lambda: is_ready(port))
        return name

    yield start

    for name in names:
        run_engine("rm", "--force", name)


def is_ready(port):
    try:
        return over_http(f"127.0.0.1:{port}", "GET", "/readyz").status == 200
    except http.client.HTTPException:  # a published port accepts before the service listens
        return False


def run_healthcheck(name):
    """Run the image's HEALTHCHECK in a container."""
    image = inspect_image()
    # podman has it at the top, docker in the configuration.
    healthcheck = image.get("Healthcheck") or image["Config"]["Healthcheck"]
    kind, *command = healthcheck["Test"]
    assert kind == "CMD"  # no shell
    run_engine("exec", name, *command)


def test_image_starts_without_shell():
    """The image starts gunicorn in exec form, as a numeric user, and exposes one port."""
    config = inspect_image()["Config"]
    assert not config.get("Entrypoint")
    assert config["Cmd"] == ["gunicorn", "app:app"]
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/app"
    assert list(config["ExposedPorts"]) == ["5000/tcp"]


def test_image_holds_read_only_program():
    """The image holds the named files and their bytecode only, and none is writable."""
    lines = run_python(LIST_FILES).splitlines()
    writable = dict(line.removeprefix("./").split() for line in lines)
    top = {"app.py", "gunicorn.conf.py", "model.pkl", "model.json"}
    package = set()
    for path in (ROOT / "serving").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            package.add(str(path.relative_to(ROOT)))
    bytecode = [name for name in writable if "__pycache__" in name]
    assert writable.keys() - set(bytecode) == top | package
    assert set(writable.values()) == {"False"}
    n_modules = sum(name.endswith(".py") for name in package)
    assert len(bytecode) == n_modules + 2  # of every module, and of the two at the top


def test_two_builds_have_same_files():
    """A second build, from nothing, has the same files with the same content."""
    again = f"{IMAGE}-again"
    command = ["build", "--quiet", "--no-cache", *BUILD_ARGS, "--tag", again, str(ROOT)]
    run_engine(*command, timeout=600)
    try:
        first = run_python(DIGEST_FILES).splitlines()
        second = run_python(DIGEST_FILES, again).splitlines()
    finally:
        run_engine("image", "rm", again)
    assert len(first) > 1000
    assert first == second


def test_image_holds_no_tools():
    """The image holds no compiler, no download tool and no test library."""
    programs = ["gcc", "cc", "make", "git", "curl", "pytest"]
    found = run_python(f"import shutil; print([x for x in {programs} if shutil.which(x)])")
    assert found == "[]"

    modules = ["pip", "pytest", "hypothesis", "pandas", "yaml"]
    found = run_python(
        f"import importlib.util as u; print([x for x in {modules} if u.find_spec(x)])"
    )
    assert found == "[]"


def test_image_passes_api_tests(start_container):
    """The tests of our own API and of the protocols pass against the image."""
    start_container(5000)
    run_api_tests()


def test_edge_image_passes_api_tests(start_container, edge_image):
    """The edge image answers as the other one, without scikit-learn."""
    modules = ["joblib", "numpy", "pandas", "pip", "scipy", "sklearn"]
    program = f"import importlib.util as u; print([x for x in {modules} if u.find_spec(x)])"
    assert run_python(program, edge_image) == "['numpy']"

    name = start_container(5000, image=edge_image)
    run_healthcheck(name)
    run_api_tests()


def run_api_tests():
    folders = [ROOT / "tests" / name for name in ("api", "protocols")]
    files = [path for folder in folders for path in sorted(folder.glob("test_*.py"))]
    assert {path.name for path in files} >= {"test_routes.py"}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *files],
        env=os.environ | {"SERVICE_URL": "http://127.0.0.1:5000"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def test_image_healthcheck_passes(start_container):
    """The image's HEALTHCHECK passes when the service is ready."""
    run_healthcheck(start_container(5000))


def test_serve_follows_sagemaker(start_container):
    """With `serve` as argument the image answers on SageMaker's port, and stays healthy."""
    name = start_container(8080, "serve")
    assert (
        over_http("127.0.0.1:8080", "POST", "/predict", EXAMPLE_REQUEST, JSON).body
        == EXAMPLE_RESPONSE
    )
    run_healthcheck(name)


def test_stopping_under_load_loses_nothing(start_container):
    """SIGTERM under load loses no request, and the container ends with status 0."""
    name = start_container(5000)
    clients = [Client("127.0.0.1:5000") for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.answers) > 20 for client in clients))

    run_engine("kill", "--signal", "TERM", name)
    for client in clients:
        client.join(30)
    assert [client.fault for client in clients] == [None] * 4
    assert {answer for client in clients for answer in client.answers} == {EXAMPLE_RESPONSE}
    assert run_engine("wait", name) == "0"
