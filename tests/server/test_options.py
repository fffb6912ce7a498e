"""gunicorn's own options: each is honoured, or refused in one line at start."""

import os
import re
import subprocess
import sys

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier

from connections import ONE, RawConnection, exchange, gunicorn_with
from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    MODEL_FILE,
    ROOT,
    environment,
    free_port,
)

REFUSED = [
    (["--certfile", "README.md", "--keyfile", "README.md"], {}, "certfile: not by this worker"),
    (["--proxy-protocol", "v1"], {}, "proxy_protocol: not by this worker"),
    (["--forwarded-allow-ips", "*"], {}, "forwarded_allow_ips: not by this worker"),
    (["--permit-obsolete-folding"], {}, "permit_obsolete_folding: not by this worker"),
    (["--no-sendfile"], {}, "sendfile: not by this worker"),
    (["--reload"], {}, "reload: has no effect with preload_app"),
    (["--access-logfile", "-"], {}, "accesslog: the service has a request log"),
    (["--bind", "127.0.0.1:0"], {"METRICS_PORT": "9000"}, "METRICS_PORT: --bind replaces it"),
    ([], {"OMP_NUM_THREADS": "2"}, "OMP_NUM_THREADS: expected 1, got '2'"),
    ([], {"OPENBLAS_NUM_THREADS": "4"}, "OPENBLAS_NUM_THREADS: expected 1, got '4'"),
]


def refusal(*words, **names):
    """Return the line with which gunicorn ends with status 1."""
    process = subprocess.run(
        [sys.executable, "-m", "gunicorn", *words],
        cwd=ROOT,
        env=environment(LOG_LEVEL="warning", **names),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    return line


@pytest.mark.parametrize(("options", "names", "message"), REFUSED)
def test_option_is_refused_in_one_line(options, names, message):
    """An option that would be ignored ends the process."""
    assert refusal(*options, "app:app", **names).startswith(message)


def test_other_application_is_refused_in_one_line():
    """An application that create_app has not made has no service."""
    application = "flask:Flask('other')"
    assert refusal(application).startswith(f"{application}: expected what create_app() returns")


def test_limits_of_the_head_are_honoured(serve):
    """The options for the head of a request replace the defaults."""
    arguments = "--limit-request-line 100 --limit-request-fields 5 --limit-request-field_size 50"
    service = serve(GUNICORN_CMD_ARGS=arguments, WEB_CONCURRENCY="1")
    head = b" HTTP/1.1\r\nHost: x\r\n"
    for request, status in (
        (b"GET /" + b"x" * 70 + head + b"\r\n", 404),
        (b"GET /" + b"x" * 100 + head + b"\r\n", 414),
        (b"GET /healthz" + head + b"A: b\r\n" * 4 + b"\r\n", 200),
        (b"GET /healthz" + head + b"A: b\r\n" * 5 + b"\r\n", 431),
        (b"GET /healthz" + head + b"A: " + b"b" * 51 + b"\r\n\r\n", 431),
    ):
        assert exchange(service, request)[0][0][0] == status, request


def test_timeout_zero_is_no_limit(serve):
    """With --timeout 0, as for Cloud Run, the rest of a request may come at any time."""
    service = serve(command=gunicorn_with(timeout=0, keep_alive=1), WEB_CONCURRENCY="1")
    slow = RawConnection(service.address, ONE[:-5])
    idle = RawConnection(service.address, ONE)
    assert idle.answer()[0] == 200
    assert idle.ended()  # so the time limits were checked
    slow.send(ONE[-5:])
    assert slow.answer()[2] == EXAMPLE_RESPONSE


def test_unix_socket_is_served(tmp_path):
    """The service listens on a Unix socket."""
    path = tmp_path / "socket"
    command = gunicorn_with(bind=f"unix:{path}")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(WEB_CONCURRENCY="1"), stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if "Booting worker" in line:
                break
        curl = ["curl", "--silent", "--unix-socket", path, "http://x/healthz"]
        response = subprocess.run(curl, capture_output=True, text=True, timeout=20)
        assert response.stdout == '{"status":"alive"}\n'
    finally:
        process.terminate()
        process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 0


def test_other_directory_is_no_obstacle(serve, tmp_path):
    """Gunicorn may be started in another directory, with --config."""
    command = gunicorn_with(config=ROOT / "gunicorn.conf.py", chdir=ROOT)
    service = serve(tmp_path, command, MODEL_PATH=str(MODEL_FILE))
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_memory_file_system_may_be_read_only():
    """A /dev/shm that is there but not writable is not used."""
    program = [sys.executable, "-m", "gunicorn", "--check-config", "--print-config", "app:app"]
    script = "mount -o remount,ro,bind /dev/shm && exec " + " ".join(program)
    shown = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=ROOT,
        env=environment(PORT=free_port()),
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert re.search("worker_tmp_dir += None", shown.stdout)


@pytest.mark.parametrize("worker_class", ["sync", "asgi"])
def test_other_worker_classes_start(serve, worker_class):
    """Each worker class of gunicorn answers, with or without a loop of its own."""
    application = {"sync": "app:app", "asgi": "variants:asgi()"}[worker_class]
    options = ["--pythonpath", "bench", "--worker-class", worker_class, application]
    service = serve(command=[sys.executable, "-m", "gunicorn", *options], WEB_CONCURRENCY="1")
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_openmp_model_is_served(serve, checkout):
    """A model that computes with OpenMP is tested before the fork and serves after it."""
    X, y = load_iris(return_X_y=True)
    (checkout / "model.json").unlink()
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(X, y)
    joblib.dump(estimator, checkout / "model.pkl")
    service = serve(checkout, WEB_CONCURRENCY="2")
    for _ in range(4):
        response = service.call("POST", "/predict", EXAMPLE_REQUEST, JSON)
        assert response.json["prediction"] == estimator.predict(X[:1]).tolist()
