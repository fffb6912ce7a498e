"""The release check, put to real services: those that should pass, and those that should not."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from helpers import environment, facts
from serving.model.storage import save_model

X, y = load_iris(return_X_y=True)


def check(cwd, address, **names):
    """Run the check of the program in `cwd`; return its status and what it says."""
    command = [sys.executable, "-m", "serving.smoke_test", f"http://{address}"]
    done = subprocess.run(
        command, cwd=cwd, env=environment(**names), capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


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
def test_a_service_of_the_same_model_passes(serve, checkout, estimator):
    card = save_model(checkout / "model.pkl", estimator, reference=X[::50], **facts(estimator))
    service = serve(checkout)
    said = f"http://{service.address} answers as version {card.sha256[:12]} should\n"
    assert check(checkout, service.address) == (0, said)


def test_a_service_of_another_model_fails_and_both_versions_are_named(serve, checkout):
    service = serve()
    other = LogisticRegression(C=0.001).fit(X, y)
    card = save_model(checkout / "model.pkl", other, reference=X[::50], **facts(other))
    status, said = check(checkout, service.address)
    version = service.call("GET", "/readyz").headers["X-Model-Version"]
    assert status == 1
    assert (
        f"readiness: expected 200 from version {card.sha256[:12]}, got 200 from {version}" in said
    )


def test_the_card_is_the_one_of_model_path(serve, checkout, tmp_path):
    service = serve(checkout)
    card = save_model(
        tmp_path / "other.pkl",
        other := LogisticRegression(C=0.001).fit(X, y),
        reference=X[::50],
        **facts(other),
    )
    status, said = check(checkout, service.address, MODEL_PATH=str(tmp_path / "other.pkl"))
    assert status == 1 and f"readiness: expected 200 from version {card.sha256[:12]}" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"prediction": 0', '"prediction": 1'),
        ('"probability": [\n        0.9', '"probability": [\n        0.8'),
    ],
)
def test_an_answer_that_differs_fails(serve, checkout, old, new):
    text = (checkout / "model.json").read_text()
    assert old in text
    (checkout / "model.json").write_text(text.replace(old, new))
    status, said = check(checkout, serve().address)
    assert status == 1 and "rows as arrays: expected {" in said


def test_a_key_is_sent_where_one_is_set(serve, checkout):
    service = serve(API_KEYS="one,two")
    assert check(checkout, service.address, API_KEYS="two,x")[0] == 0
    status, said = check(checkout, service.address)
    assert status == 1 and "got 401" in said


def test_a_service_that_is_not_there_fails_in_one_line(checkout):
    status, said = check(checkout, "127.0.0.1:9")
    assert (status, said) == (
        1,
        "http://127.0.0.1:9: <urlopen error [Errno 111] Connection refused>\n",
    )
