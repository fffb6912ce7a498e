"""What can go wrong with MLflow: each ends with one line, and leaves the old files."""

import os
import re
import shutil
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import joblib
import pytest
from mlflow import MlflowClient

from helpers import ROOT, Call, free_port
from registries import FILE_NAMES, digest
from serving.registry import MLFLOW_DEFAULTS

DIGEST_TAGS = ("sha256", "card_sha256")  # of FILE_NAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pull", "models:/iris@nobody"], "alias nobody not found"),
        (["pull", "models:/iris/77"], "Model Version (name=iris, version=77) not found"),
        (["pull", "models:/roses@champion"], "Registered Model with name=roses not found"),
        (["pull", "iris"], "expected models:/NAME/NUMBER or models:/NAME@ALIAS, got 'iris'"),
        (["promote", "models:/iris/77", "--alias", "champion"], "not found"),
        (["list", "roses"], "Registered Model with name=roses not found"),
    ],
)
def test_missing_version_is_refused(registered, checkout, assert_refused, arguments, message):
    """A name, version or alias that does not exist is one line."""
    assert_refused(checkout, *arguments, contains=message, MLFLOW_TRACKING_URI=registered)


@pytest.mark.parametrize("arguments", [["pull", "models:/iris@champion"], ["register", "iris"]])
def test_missing_server_is_refused(checkout, assert_refused, arguments):
    """A server that does not respond is one line."""
    variables = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}
    assert_refused(checkout, *arguments, contains="Connection refused", **variables)


def test_silent_server_is_given_up_soon():
    """A server that accepts and says nothing is given up within half a minute."""
    n_attempts = int(MLFLOW_DEFAULTS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) + 1
    assert n_attempts * int(MLFLOW_DEFAULTS["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 30


class TruncatingProxy(BaseHTTPRequestHandler):
    """Forwards requests, and ends the connection in the middle of one file."""

    def do_GET(self):
        request = urllib.request.Request(self.server.upstream + self.path)
        with urllib.request.urlopen(request) as response:
            body = response.read()
        self.send_response(200)
        for name in ("Content-Type", "Content-Length"):
            if name in response.headers:
                self.send_header(name, response.headers[name])
        self.end_headers()

        if self.path.endswith(self.server.truncated_name):
            self.server.n_truncated += 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name", FILE_NAMES)
def test_interrupted_download_is_refused(registered, checkout, run_registry, assert_refused, name):
    """A connection that ends in the middle of a file is one line; the next pull succeeds."""
    with ThreadingHTTPServer(("127.0.0.1", 0), TruncatingProxy) as proxy:
        proxy.upstream = registered
        proxy.truncated_name = name
        proxy.n_truncated = 0
        Thread(target=proxy.serve_forever, daemon=True).start()
        variables = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.server_port}"}
        assert_refused(checkout, "pull", "models:/iris/1", contains=name, **variables)
        assert proxy.n_truncated > 0

        proxy.truncated_name = "no such file"
        assert run_registry(checkout, "pull", "models:/iris/1", **variables)[0] == 0
        proxy.shutdown()


@pytest.fixture
def stored_files(mlflow_server, registered, trained):
    """Return the directory of version 2 on the server; its files are restored after the test."""
    model_digest = digest(trained[1] / "model.pkl")
    paths = mlflow_server.artifacts.rglob("model.pkl")
    [path] = [path for path in paths if digest(path) == model_digest]
    yield path.parent
    for name in FILE_NAMES:
        shutil.copy(trained[1] / name, path.parent / name)


@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-100]),
            "models:/iris/2: SHA-256 mismatch: {} has ",
        ),
        (
            lambda path: path.write_bytes((ROOT / path.name).read_bytes()),
            "models:/iris/2: SHA-256 mismatch: {} has ",
        ),
        (lambda path: path.unlink(), "models:/iris/2 has no {}"),
    ],
    ids=["truncated", "of another version", "missing"],
)
def test_damaged_artifact_is_refused(
    registered, stored_files, checkout, assert_refused, name, damage, message
):
    """A file that differs from the digest in its tag is neither pulled nor promoted."""
    damage(stored_files / name)
    for arguments in (
        ["pull", "models:/iris/2"],
        ["promote", "models:/iris/2", "--alias", "champion", "--force"],
    ):
        assert_refused(
            checkout, *arguments, contains=message.format(name), MLFLOW_TRACKING_URI=registered
        )


def test_hostile_file_with_valid_tags_is_refused(
    registered, stored_files, checkout, assert_refused, tmp_path
):
    """A hostile pickle does not run, even if its tags and its card have its digest."""
    marker = tmp_path / "marker"
    joblib.dump(Call(os.system, f"touch {marker}"), stored_files / "model.pkl")
    card = (stored_files / "model.json").read_text()
    card_digest = f'"sha256": "{digest(stored_files / "model.pkl")}"'
    card = re.sub('"sha256": "[0-9a-f]{64}"', card_digest, card, count=1)
    (stored_files / "model.json").write_text(card)

    client = MlflowClient(registered)
    tags = client.get_model_version("iris", "2").tags
    for tag, name in zip(DIGEST_TAGS, FILE_NAMES, strict=True):
        client.set_model_version_tag("iris", "2", tag, digest(stored_files / name))
    message = "models:/iris/2: model.pkl: it imports posix.system, which is not on the allow-list"
    try:
        assert_refused(
            checkout, "pull", "models:/iris/2", contains=message, MLFLOW_TRACKING_URI=registered
        )
        assert not marker.exists()
    finally:
        for tag, value in tags.items():
            client.set_model_version_tag("iris", "2", tag, value)
