"""The smoke test against real services: some that must pass, and some that must not."""

import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import msgspec
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from werkzeug.serving import make_server

from app import create_app
from fixture_models import model_file
from helpers import card_fields, environment
from serving.model.loading import load_model
from serving.model.storage import save_model
from serving.smoke_test import find_failures
from zoo import ZOO
from zoo_models import zoo_model

X, y = load_iris(return_X_y=True)


def run_program(cwd, *arguments, **variables):
    """Run the smoke test of the program in `cwd`; return its status, and all that it prints."""
    result = subprocess.run(
        [sys.executable, "-m", "serving.smoke_test", *arguments],
        cwd=cwd,
        env=environment(cwd, **variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.returncode, result.stdout + result.stderr


def check(cwd, address, **variables):
    return run_program(cwd, f"http://{address}", **variables)


def test_same_model_passes(serve, checkout):
    """A service of the model whose card is here passes, with strings and missing values as well."""
    path = model_file("penguins")
    for name in ("model.pkl", "model.json"):
        shutil.copy(path.with_name(name), checkout)
    service = serve(checkout)
    version = service.call("GET", "/readyz").headers["X-Model-Version"]
    message = f"http://{service.address}: version {version} passed the smoke test\n"
    assert check(checkout, service.address) == (0, message)


@pytest.fixture
def serve_in_thread():
    """Return a function that serves a model file in a thread and returns its address."""
    servers = []

    def start(path):
        app = create_app(MODEL_PATH=str(path))
        servers.append(make_server("127.0.0.1", 0, app, threaded=True))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ZOO)
def test_every_model_passes_and_fails(serve_in_thread, name):
    """Whatever a model takes and predicts, it passes with its card, and fails with another."""
    _, path = zoo_model(name)
    card = load_model(path).card
    url = serve_in_thread(path)
    assert find_failures(url, card) == []

    changed_rows = [msgspec.structs.replace(card.reference[0], prediction=None)]
    changed_card = msgspec.structs.replace(card, reference=changed_rows + card.reference[1:])
    failures = find_failures(url, changed_card)
    assert [failure.partition(":")[0] for failure in failures] == ["rows as arrays", "rows by name"]


def test_other_model_fails_with_both_versions(serve, checkout):
    """A service of another model fails, and the line names both versions."""
    service = serve()
    other = LogisticRegression(C=0.001).fit(X, y)
    card = save_model(checkout / "model.pkl", other, reference=X[::50], **card_fields(other))
    status, output = check(checkout, service.address)
    version = service.call("GET", "/readyz").headers["X-Model-Version"]
    assert status == 1
    message = f"readiness: expected 200 from version {card.sha256[:12]}, got 200 from {version}"
    assert message in output


def test_model_path_selects_the_card(serve, checkout, tmp_path):
    """The card is the one beside MODEL_PATH."""
    service = serve(checkout)
    other = LogisticRegression(C=0.001).fit(X, y)
    path = tmp_path / "other.pkl"
    card = save_model(path, other, reference=X[::50], **card_fields(other))
    status, output = check(checkout, service.address, MODEL_PATH=str(path))
    assert status == 1
    assert f"readiness: expected 200 from version {card.sha256[:12]}" in output


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"prediction": 0', '"prediction": 1'),
        ('"probability": [\n        0.9', '"probability": [\n        0.8'),
    ],
    ids=["prediction", "probability"],
)
def test_different_answer_fails(serve, checkout, old, new):
    """A prediction or a probability that differs from the card fails."""
    text = (checkout / "model.json").read_text()
    assert old in text
    (checkout / "model.json").write_text(text.replace(old, new))
    status, output = check(checkout, serve().address)
    assert status == 1
    assert "rows as arrays: expected {" in output


def test_first_api_key_is_sent(serve, checkout):
    """The first of API_KEYS is sent; without one the service rejects the requests."""
    service = serve(API_KEYS="one,two")
    assert check(checkout, service.address, API_KEYS="two,x")[0] == 0
    status, output = check(checkout, service.address)
    assert status == 1
    assert "got 401" in output


def test_unreachable_service_fails_in_one_line(checkout):
    """A service that does not respond is one line and status 1."""
    message = "http://127.0.0.1:9: <urlopen error [Errno 111] Connection refused>\n"
    assert check(checkout, "127.0.0.1:9") == (1, message)


class TextHandler(BaseHTTPRequestHandler):
    """Responds to every request with text."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_):
        pass


def test_service_without_json_fails_in_one_line(checkout):
    """Another server at the address is one line and status 1."""
    with ThreadingHTTPServer(("127.0.0.1", 0), TextHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        status, output = check(checkout, address)
        server.shutdown()
    assert status == 1
    [line] = output.splitlines()
    assert line.startswith(f"http://{address}: JSON is malformed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: URL"),
        (["http://a", "http://b"], "unrecognized arguments: http://b"),
        (["ml-model"], "expected a URL like http://localhost:5000, got 'ml-model'"),
        (["http://"], "expected a URL like http://localhost:5000, got 'http://'"),
        (["http://a:b"], "expected a URL like http://localhost:5000, got 'http://a:b'"),
        (["file:///x"], "expected a URL like http://localhost:5000, got 'file:///x'"),
    ],
)
def test_bad_arguments_print_usage(checkout, arguments, message):
    """No URL, two, or one of another kind: usage, one line and status 2."""
    status, output = run_program(checkout, *arguments)
    usage, line = output.splitlines()
    assert status == 2
    assert usage == "usage: python -m serving.smoke_test [-h] URL"
    assert line == f"python -m serving.smoke_test: error: {message}"


def test_missing_card_fails_in_one_line(checkout, tmp_path):
    """A card that cannot be read is one line and status 1."""
    status, output = check(checkout, "127.0.0.1:9", MODEL_PATH=str(tmp_path / "none.pkl"))
    assert status == 1
    [line] = output.splitlines()
    assert line.startswith(f"model card {tmp_path / 'none.json'} cannot be read: ")
