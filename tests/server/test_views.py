"""Views that an owner may add: streams, files, views that wait, under both worker classes."""

import sys

import pytest

from connections import RawConnection
from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE, JSON, ROOT, Service, environment
from processes import peak_bytes, reset_peak

APPS = ROOT / "tests/server/apps"
LARGE_FILE_BYTES = 64 * 2**20
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the paths that the application waits for and sends."""
    directory = tmp_path_factory.mktemp("views")
    with (directory / "large").open("wb") as file:
        file.truncate(LARGE_FILE_BYTES)
    return {"HOLD_FILE": directory / "hold", "LARGE_FILE": directory / "large"}


def run_views(files, worker_class):
    """Return a service with the views of flask_app.py."""
    options = ["--worker-class", worker_class, "--threads", "4"]
    command = [sys.executable, "-m", "gunicorn", *options, "flask_app:app"]
    names = {name: str(path) for name, path in files.items()}
    return Service(command, ROOT, environment(WEB_CONCURRENCY="1", PYTHONPATH=str(APPS), **names))


@pytest.fixture(scope="module")
def own_views(files):
    """Return a service with the views and the default worker class."""
    running = run_views(files, "serving.server.worker.Worker")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def gthread_views(files):
    """Return a service with the views and gunicorn's gthread."""
    running = run_views(files, "gthread")
    yield running
    assert running.stop() == 0


@pytest.fixture(params=["own_views", "gthread_views"])
def views(request):
    """Return a service with the views, for each worker class."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def hold(files):
    """Let the views wait until the end of the test."""
    files["HOLD_FILE"].touch()
    yield files["HOLD_FILE"]
    files["HOLD_FILE"].unlink(missing_ok=True)


def test_stream_keeps_context(views):
    """A stream reads the request in each of its parts."""
    for _ in range(8):
        response = views.call("GET", "/context?a=1&b=2&c=3")
        assert (response.status, response.body) == (200, b"123")
    assert "ERROR" not in views.log


def test_file_is_streamed(views):
    """A file is sent whole, and is never in memory as a whole."""
    before = reset_peak(views)
    response = views.call("GET", "/file")
    assert response.status == 200
    assert response.headers["Content-Length"] == str(LARGE_FILE_BYTES)
    assert len(response.body) == LARGE_FILE_BYTES
    assert peak_bytes(views) - before < LARGE_FILE_BYTES / 4


def test_broken_stream_is_500(own_views):
    """A stream that fails before its first part is answered 500."""
    response = own_views.call("GET", "/broken-stream")
    assert (response.status, response.json) == (500, {"error": "Internal Server Error"})


def test_quick_path_moves_to_loop(own_views):
    """A path that is quick is handled in the loop; one that was slow there, in a thread again."""
    names = [own_views.call("GET", "/quick").body for _ in range(100)]
    assert names[0] != b"MainThread"
    assert names[-1] == b"MainThread"

    assert own_views.call("GET", "/quick?slow=1").body == b"MainThread"
    assert own_views.call("GET", "/quick").body != b"MainThread"


@pytest.mark.parametrize("path", ["/asyncio-run", "/coroutine"])
def test_coroutines_run_in_every_thread(views, path):
    """A view may be a coroutine, or run one: before its path moves to the loop, and after."""
    responses = [views.call("GET", path) for _ in range(100)]
    assert {response.status for response in responses} == {200}


def test_coroutine_runs_in_the_loop(own_views):
    """A quick path moves to the loop although it runs another one, which then has ended."""
    names = [own_views.call("GET", "/asyncio-run").body for _ in range(100)]
    assert names[-1] == b"MainThread"
    assert own_views.call("GET", "/quick").status == 200


@pytest.mark.parametrize("moment", ["before", "after"])
def test_body_may_be_read_by_others(views, moment):
    """A function that reads the body, before or after the request, takes it from nobody."""
    headers = JSON | {"X-Read-Body": moment}
    for _ in range(5):
        response = views.call("POST", "/predict", EXAMPLE_REQUEST, headers)
        assert response.body == EXAMPLE_RESPONSE
        assert response.headers["X-Body"] == EXAMPLE_REQUEST.decode()


def test_waiting_path_stays_in_threads(own_views):
    """A path that waits, however shortly, is never handled in the loop."""
    names = {own_views.call("GET", "/thread?sleep=0.0001").body for _ in range(100)}
    assert b"MainThread" not in names


@pytest.mark.parametrize("path", [b"/wait", b"/compute", b"/events"])
def test_probes_never_wait(own_views, hold, path):
    """A probe is answered while views wait, compute and stream, more of them than threads."""
    clients = [RawConnection(own_views.address, GET % path) for _ in range(8)]
    for probe in ("/healthz", "/readyz") * 5:
        assert own_views.call("GET", probe).status == 200

    hold.unlink()
    assert [client.answer()[0] for client in clients] == [200] * 8


def test_streams_do_not_delay_bodies(own_views, hold):
    """A large body is read and answered while event streams wait."""
    clients = [RawConnection(own_views.address, GET % b"/events") for _ in range(8)]
    body = EXAMPLE_REQUEST.ljust(20_000)
    for _ in range(5):
        assert own_views.call("POST", "/predict", body, JSON).body == EXAMPLE_RESPONSE

    hold.unlink()
    assert [client.answer()[2] for client in clients] == [b"data: 1\n\n"] * 8
