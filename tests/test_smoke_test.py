"""The smoke test against real services: some that must pass, and some that must not."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from helpers import card_fields, environment
from serving.model.storage import save_model

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


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=500).fit(X, y),
        LogisticRegression(max_iter=500).fit(X, np.array(["no", "maybe", "yes"], dtype=object)[y]),
        LinearSVC().fit(X, y),  # no probabilities
        LinearRegression().fit(X, y / 3),
    ],
    ids=["classes", "words", "no probabilities", "numbers"],
)
def test_same_model_passes(serve, checkout, estimator):
    """A service of the model whose card is here passes, whatever the model predicts."""
    card = save_model(
        checkout / "model.pkl", estimator, reference=X[::50], **card_fields(estimator)
    )
    service = serve(checkout)
    message = f"http://{service.address}: version {card.sha256[:12]} passed the smoke test\n"
    assert check(checkout, service.address) == (0, message)


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
