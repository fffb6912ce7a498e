"""The service as a process: how it starts, how it refuses to, how it ends."""

import os
import re
import runpy
import signal
import subprocess
import sys

import joblib
import pytest
from sklearn.preprocessing import StandardScaler

from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    MODEL_FILE,
    PROGRAM,
    ROOT,
    Call,
    Client,
    Service,
    environment,
    free_port,
    gunicorn,
    half_sent,
    over_http,
    wait_until,
)
from serving.config import Settings
from serving.server.sockets import all_interfaces


def rewrite(content):
    return lambda path, marker: path.write_bytes(content)


BAD_MODELS = {
    "missing": (
        lambda path, marker: path.unlink(),
        "No such file or directory; `python train.py` writes one",
    ),
    "cut off": (
        rewrite((MODEL_FILE).read_bytes()[:500]),
        "it is cut off or damaged: copy or train it again",
    ),
    "text": (
        rewrite(b"hello"),
        "it is not a pickle: write it with `joblib.dump(estimator, path)`",
    ),
    "a list": (
        lambda path, marker: joblib.dump([1], path),
        "cannot be loaded as a model: TypeError: ",
    ),
    "a scaler": (
        lambda path, marker: joblib.dump(StandardScaler().fit([[1.0]]), path),
        "StandardScaler has no predict",
    ),
    "hostile": (
        lambda path, marker: joblib.dump(Call(os.system, f"touch {marker}"), path),
        "it imports posix.system, which is not on the allow-list",
    ),
}


@pytest.mark.parametrize("model", BAD_MODELS)
def test_invalid_model_ends_process(checkout, tmp_path, model):
    """An invalid model ends the process with one line, and nothing in it runs."""
    make, message = BAD_MODELS[model]
    path = checkout / "model.pkl"
    path.with_suffix(".json").unlink()
    make(path, tmp_path / "marker")
    assert_refuses(checkout, gunicorn(), f"{path}: ", message)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"MODEL_SHA256": "0" * 64}, f"MODEL_SHA256 is {'0' * 64}"),
        ({"MAX_ROWS": "many"}, "MAX_ROWS: expected a whole number above 0, got 'many'"),
        ({"MAX_BODY_BYTES": "0"}, "MAX_BODY_BYTES: expected a whole number above 0, got '0'"),
        ({"API_KEYS": " ,"}, "API_KEYS is set but contains no key"),
        ({"PORT": "http"}, "PORT: expected a whole number from 0 to 65535, got 'http'"),
        ({"AIP_HTTP_PORT": "0"}, "AIP_HTTP_PORT: expected a whole number from 1 to 65535, got '0'"),
        (
            {"SAGEMAKER_BIND_TO_PORT": "x"},
            "SAGEMAKER_BIND_TO_PORT: expected a whole number from 1 to 65535, got 'x'",
        ),
        ({"AIP_PREDICT_ROUTE": "predict"}, "AIP_PREDICT_ROUTE: expected a path, got 'predict'"),
        (
            {"METRICS_PORT": "70000"},
            "METRICS_PORT: expected a whole number from 1 to 65535, got '70000'",
        ),
        (
            {"WEB_CONCURRENCY": "0"},
            "WEB_CONCURRENCY: expected a whole number from 1 to 1000, got '0'",
        ),
        (
            {"LOG_LEVEL": "loud"},
            "LOG_LEVEL: expected debug, info, warning, error or critical, got 'loud'",
        ),
    ],
)
def test_invalid_setting_ends_process(names, message):
    """An invalid setting ends the process with one line."""
    assert_refuses(ROOT, gunicorn(), "", message, **names)


def test_development_server_refuses_setting():
    """An invalid setting ends the development server with one line."""
    assert_refuses(ROOT, [sys.executable, "app.py"], "MAX_ROWS: ", "got 'many'", MAX_ROWS="many")


def test_other_scikit_learn_ends_process(checkout):
    """A model of another scikit-learn version ends the process with one line."""
    card = checkout / "model.json"
    card.write_text(card.read_text().replace('"scikit-learn": "', '"scikit-learn": "0.'))
    assert_refuses(
        checkout,
        gunicorn(),
        f"{checkout / 'model.pkl'}: trained with scikit-learn 0.",
        "retrain or install",
    )


@pytest.mark.parametrize(
    ("program", "names", "bind"),
    [
        ("gunicorn", {}, ["[::]:5000"]),
        ("gunicorn", {"SAGEMAKER_BIND_TO_PORT": "9090"}, ["[::]:5000"]),
        ("gunicorn", {"AIP_HTTP_PORT": "8080"}, ["[::]:8080", "127.0.0.1:5000"]),
        ("gunicorn", {"AIP_HTTP_PORT": "5000"}, ["[::]:5000"]),
        ("serve", {}, ["[::]:8080", "127.0.0.1:5000"]),
        ("serve", {"SAGEMAKER_BIND_TO_PORT": "9090"}, ["[::]:9090", "127.0.0.1:5000"]),
        ("serve", {"PORT": "8080", "METRICS_PORT": "9000"}, ["[::]:8080", "[::]:9000"]),
    ],
)
def test_ports_follow_platforms(monkeypatch, tmp_path, program, names, bind):
    """The service listens where the platform calls."""
    (tmp_path / program).symlink_to(ROOT / "gunicorn.conf.py")  # runpy says this is the program
    for name in ("PORT", "METRICS_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # gunicorn.conf.py sets its own
    bind = [address.replace("[::]", all_interfaces()) for address in bind]
    assert runpy.run_path(str(tmp_path / program))["bind"] == bind


@pytest.mark.skipif(all_interfaces() != "[::]", reason="no IPv6 here")
def test_service_listens_on_ipv6_and_ipv4(serve):
    """Both ports are open to both protocols, and an IPv4 client has an IPv4 address."""
    metrics_port = free_port()
    service = serve(METRICS_PORT=metrics_port, WEB_CONCURRENCY="1")
    port = service.address.rpartition(":")[2]
    for host in ("127.0.0.1", "[::1]"):
        answer = over_http(f"{host}:{port}", "POST", "/predict", EXAMPLE_REQUEST, JSON)
        assert (answer.status, answer.body) == (200, EXAMPLE_RESPONSE)
        assert over_http(f"{host}:{metrics_port}", "GET", "/metrics").status == 200


def test_service_listens_on_ipv4_alone():
    """Where a socket for IPv6 takes no IPv4 connection, the service listens on IPv4."""
    program = "from serving.server.sockets import all_interfaces; print(all_interfaces())"
    script = f"sysctl -q -w net.ipv6.bindv6only=1 && exec {sys.executable} -c '{program}'"
    process = subprocess.run(
        ["unshare", "--net", "--user", "--map-root-user", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        pytest.skip(process.stderr)
    assert process.stdout == "0.0.0.0\n"


def test_metrics_port_is_not_the_public_port(monkeypatch, tmp_path):
    """The port on which SageMaker calls cannot be the port of the metrics as well."""
    (tmp_path / "serve").symlink_to(ROOT / "gunicorn.conf.py")  # runpy uses the name of the link
    monkeypatch.setenv("METRICS_PORT", "8080")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit, match="METRICS_PORT: 8080 is the public port already"):
        runpy.run_path(str(tmp_path / "serve"))


def assert_refuses(cwd, command, begins, contains, **names):
    done = subprocess.run(
        command, cwd=cwd, env=environment(cwd, **names), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(begins) and contains in line
    assert done.stdout == ""


def test_read_only_directory_suffices(serve, checkout):
    """The service needs no HOME and writes nothing to its directory."""
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    # Root may write anywhere, unless it gives that up.
    dropped = (
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
        if os.geteuid() == 0
        else []
    )
    assert (
        subprocess.run([*dropped, "touch", checkout / "new"], capture_output=True).returncode == 1
    )
    service = serve(checkout, gunicorn(*dropped))
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    service.stop()
    assert not re.search("ERROR|WARNING|[Cc]ontrol socket", service.log)
    assert sorted(path.name for path in checkout.iterdir() if path.name != "__pycache__") == sorted(
        [*PROGRAM, "model.json", "model.pkl"]
    )


def test_development_server_predicts():
    """`python app.py` answers the example request."""
    service = Service([sys.executable, "app.py"], ROOT, environment())
    try:
        assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    finally:
        assert service.stop() == -signal.SIGTERM


def test_killed_worker_is_replaced(serve):
    """A killed worker is replaced."""
    service = serve(WEB_CONCURRENCY="2")
    wait_until(lambda: len(service.workers()) == 2)
    before = service.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(service.workers()) == 2 and before[0] not in service.workers())
    assert before[1] in service.workers()
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_first_answer_knows_all_workers(serve):
    """Batch Transform asks once, maybe before the last worker has started."""
    service = serve(WEB_CONCURRENCY="6")
    assert service.call("GET", "/execution-parameters").json["MaxConcurrentTransforms"] == 6


def test_sigterm_loses_no_request(serve):
    """Requests that have begun are answered after SIGTERM."""
    service = serve(WEB_CONCURRENCY="2")
    halves = [half_sent(service.address) for _ in range(3)]
    clients = [Client(service.address) for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.answers) > 20 for client in clients))

    service.process.send_signal(signal.SIGTERM)
    for client in clients:
        client.join(30)
    assert [client.fault for client in clients] == [None] * 4
    assert {answer for client in clients for answer in client.answers} == {EXAMPLE_RESPONSE}
    assert service.process.poll() is None  # it waits for what it has begun
    for connection in halves:
        connection.send(EXAMPLE_REQUEST[-5:])
        assert connection.getresponse().read() == EXAMPLE_RESPONSE
        connection.close()
    assert service.process.wait(30) == 0


def chunks(size):
    yield EXAMPLE_REQUEST
    yield b" " * (size - len(EXAMPLE_REQUEST))


def test_chunked_body_has_limit(service):
    """A chunked body is read up to the limit, and answered 413 beyond it."""
    limit = Settings().max_body_bytes
    answer = service.call("POST", "/predict", chunks(limit), JSON)
    assert (answer.status, answer.body) == (200, EXAMPLE_RESPONSE)
    answer = service.call("POST", "/predict", chunks(limit + 1), JSON)
    assert (answer.status, answer.json) == (
        413,
        {"error": f"Expected at most {limit} bytes of body"},
    )
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_missing_body_blocks_nobody(service):
    """A body that never arrives does not block other clients."""
    halves = [half_sent(service.address) for _ in range(3)]
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    for connection in halves:
        connection.close()
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
