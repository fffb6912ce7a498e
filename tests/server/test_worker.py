"""The worker, over its socket: HTTP as the standard has it, and clients as they are."""

import contextlib
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    ROOT,
    SETOSA,
    Client,
    Service,
    environment,
    half_sent,
    wait_until,
)
from serving.server.body_buffer import MAX_BUFFERED_BYTES
from serving.server.environ import cgi_variable_name
from serving.server.request_reader import (
    MAX_HEADER_BYTES,
    MAX_HEADER_FIELDS,
)

APPS = Path(__file__).parent / "apps"

POST = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
)
ONE = POST % len(EXAMPLE_REQUEST) + b"\r\n" + EXAMPLE_REQUEST


@pytest.fixture(scope="module")
def service():
    """Return one service for the tests that leave it as it was."""
    running = Service([sys.executable, "-m", "gunicorn", "app:app"], ROOT, environment())
    yield running
    assert running.stop() == 0
    assert "ERROR" not in running.log


OPENED = []


@pytest.fixture(autouse=True)
def closing():
    """Close what a test opened, and did not close itself."""
    yield
    while OPENED:
        OPENED.pop().close()


class Raw:
    """A connection on which a test says what it likes, and reads what comes."""

    def __init__(self, address, data=b""):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.file = self.socket.makefile("rb")
        OPENED.append(self)
        self.send(data)

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """Return status, headers and body of the next answer."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                assert self.file.readline() == b"\r\n"
            assert self.file.readline() == b"\r\n"
            return status, headers, body
        return status, headers, self.file.read(int(headers.get("content-length", 0)))

    def ended(self):
        """Return whether the server closes, and says nothing more."""
        return self.file.read(1) == b""

    def close(self):
        self.file.close()
        self.socket.close()


def raw(service, data, answers=1):
    """Return what is answered to these bytes, and whether the connection is closed after it."""
    client = Raw(service.address, data)
    try:
        found = [client.answer() for _ in range(answers)]
        client.socket.settimeout(0.3)
        try:
            closed = client.ended()
        except TimeoutError:
            closed = False
    finally:
        client.close()
    return found, closed


def test_a_connection_is_kept_and_each_answer_is_whole(service):
    client = Raw(service.address)
    for _ in range(3):
        client.send(ONE)
        status, headers, body = client.answer()
        assert (status, body) == (200, EXAMPLE_RESPONSE)
        assert headers.keys() == {
            "content-type",
            "content-length",
            "x-request-id",
            "x-model-version",
            "date",
        }
        assert headers["date"].endswith(" GMT")
    client.close()


def test_requests_that_are_sent_at_once_are_answered_in_their_order(service):
    ids = [f"id-{i}" for i in range(200)]
    long = msgspec.json.encode(
        {"features": [SETOSA] * 3000}
    )  # to a thread, between two that are not
    requests = [ONE.replace(b"\r\n", f"\r\nX-Request-ID: {i}\r\n".encode(), 1) for i in ids]
    requests[100] = POST % len(long) + b"X-Request-ID: id-100\r\n\r\n" + long
    client = Raw(service.address)
    sender = threading.Thread(target=client.send, args=(b"".join(requests),))
    sender.start()
    assert [client.answer()[1]["x-request-id"] for _ in ids] == ids
    sender.join()
    client.close()


@pytest.mark.parametrize("size", [1, 7])
def test_it_does_not_matter_how_the_bytes_are_cut(service, size):
    client = Raw(service.address)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(0, len(ONE), size):
        client.send(ONE[i : i + size])
    assert client.answer()[2] == EXAMPLE_RESPONSE
    client.close()


def test_a_body_in_chunks_is_one_body(service):
    data = POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"\r\n"
    for i in range(0, len(EXAMPLE_REQUEST), 10):
        part = EXAMPLE_REQUEST[i : i + 10]
        data += b"%x\r\n%b\r\n" % (len(part), part)
    [(status, _, body), second], closed = raw(service, data + b"0\r\n\r\n" + ONE, answers=2)
    assert (status, body, second[2], closed) == (200, EXAMPLE_RESPONSE, EXAMPLE_RESPONSE, False)


KEPT = {
    "1.1": (ONE, True, None),
    "1.1 that closes": (ONE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), False, "close"),
    "1.0": (ONE.replace(b"1.1", b"1.0"), False, "close"),
    "1.0 that keeps": (
        ONE.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n"),
        True,
        "keep-alive",
    ),
    "an upgrade, as Java asks": (
        ONE.replace(b"\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", 1),
        False,
        "close",
    ),
}


@pytest.mark.parametrize("how", KEPT)
def test_a_connection_is_kept_where_both_agree(service, how):
    data, kept, said = KEPT[how]
    [(status, headers, body)], closed = raw(service, data)
    assert (status, body, closed, headers.get("connection")) == (
        200,
        EXAMPLE_RESPONSE,
        not kept,
        said,
    )


def test_what_follows_the_last_request_is_not_read(service):
    data = ONE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + ONE
    found, closed = raw(service, data)
    assert len(found) == 1 and closed


MALFORMED = {
    "not HTTP": b"hello\r\n\r\n",
    "no host": ONE.replace(b"Host: x\r\n", b""),
    "two hosts": ONE.replace(b"Host: x\r\n", b"Host: x\r\nHost: y\r\n"),
    "length and chunks": ONE.replace(b"\r\n", b"\r\nTransfer-Encoding: chunked\r\n", 1),
    "two lengths": ONE.replace(b"\r\n", b"\r\nContent-Length: 5\r\n", 1),
    "a length that is none": ONE.replace(b"Content-Length: ", b"Content-Length: -"),
    "a length beyond all": ONE.replace(
        b"Content-Length: ", b"Content-Length: 99999999999999999999"
    ),
    "a space before the colon": ONE.replace(b"Host:", b"Host :"),
    "a folded header": ONE.replace(b"Host: x", b"Host: x\r\n y"),
    "a zero byte": ONE.replace(b"Host: x", b"Host: x\0"),
    "a chunk that lies": POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    + b"\r\nxyz\r\n",
    "another coding": ONE.replace(
        b"Content-Length: %d" % len(EXAMPLE_REQUEST), b"Transfer-Encoding: gzip"
    ),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_is_not_http_is_refused_in_json_and_the_connection_ends(service, fault):
    [(status, headers, body)], closed = raw(service, MALFORMED[fault])
    assert (status, headers["content-type"], closed) == (400, "application/json", True)
    assert list(msgspec.json.decode(body)) == ["error"]


def test_what_was_right_before_is_answered_first(service):
    [first, second], closed = raw(service, ONE + b"hello\r\n\r\n", answers=2)
    assert (first[0], second[0], closed) == (200, 400, True)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"x" * 2 * MAX_HEADER_BYTES,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEADER_BYTES,
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * MAX_HEADER_BYTES,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(MAX_HEADER_FIELDS + 2)),
    ],
)
def test_headers_without_end_are_refused(service, endless):
    [(status, _, body)], closed = raw(service, endless)
    assert (status, closed) == (431, True)
    assert msgspec.json.decode(body) == {
        "error": f"Expected at most {MAX_HEADER_BYTES} bytes "
        f"and {MAX_HEADER_FIELDS} fields of headers"
    }


def test_a_header_with_an_underscore_passes_for_no_other():
    assert cgi_variable_name(b"X-Request-Id") == "HTTP_X_REQUEST_ID"
    assert cgi_variable_name(b"X_Request_Id") == ""
    assert cgi_variable_name(b"content-type") == "CONTENT_TYPE"


def test_a_path_is_decoded_and_a_proxys_form_is_understood(service):
    for target, status in (
        (b"/health%7a", 200),
        (b"http://x/healthz", 200),
        (b"/healthz?a=%20", 200),
        (b"/%2e", 404),
    ):
        [(found, _, _)], _ = raw(service, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert found == status, target
    [(status, headers, _)], _ = raw(service, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200 and headers["allow"]


def test_an_answer_to_head_has_the_length_and_not_the_body(service):
    client = Raw(service.address, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    head = b""
    while (line := client.file.readline()) != b"\r\n":
        head += line
    assert b"Content-Length: 19\r\n" in head
    client.send(ONE)
    assert client.answer()[2] == EXAMPLE_RESPONSE
    client.close()


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(service):
    client = Raw(service.address, POST % len(EXAMPLE_REQUEST) + b"Expect: 100-continue\r\n\r\n")
    assert (
        client.file.readline() == b"HTTP/1.1 100 Continue\r\n" and client.file.readline() == b"\r\n"
    )
    client.send(EXAMPLE_REQUEST)
    assert client.answer()[2] == EXAMPLE_RESPONSE
    client.close()
    client = Raw(service.address, POST % 10**9 + b"Expect: 100-continue\r\n\r\n")
    assert client.answer()[0] == 413
    assert client.ended()
    client.close()


def test_a_body_beyond_the_limit_is_refused_and_the_refusal_is_read(service):
    # The client sends on while it is answered; a connection that was reset would lose the answer.
    client = Raw(service.address, POST % (64 * 2**20) + b"\r\n")
    for _ in range(64):
        client.send(b" " * 2**20)
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (413, "close")
    client.close()


def test_a_client_that_ends_its_side_is_answered(service):
    long = msgspec.json.encode({"features": [SETOSA] * 5000})
    for data in (ONE, POST % len(long) + b"\r\n" + long):
        client = Raw(service.address, data)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer()[0] == 200
        assert client.ended()
        client.close()


def descriptors(service):
    """Return how many files and sockets the one worker has open."""
    [worker] = service.workers()
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


def test_idle_and_slow_clients_hold_up_nobody(serve):
    service = serve(WEB_CONCURRENCY="1")
    idle = [Raw(service.address) for _ in range(500)]
    slow = [half_sent(service.address) for _ in range(200)]
    for _ in range(50):
        assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    assert service.call("GET", "/readyz").status == 200
    for connection in slow:
        connection.send(EXAMPLE_REQUEST[-5:])
        assert connection.getresponse().read() == EXAMPLE_RESPONSE
        connection.close()
    for client in idle:
        client.send(ONE)
        assert client.answer()[2] == EXAMPLE_RESPONSE
        client.close()


@pytest.mark.parametrize("sent", [b"{}", b"%20000d" % 1], ids=["a slow path", "a long body"])
def test_what_takes_long_does_not_hold_up_the_probes(serve, checkout, sent):
    command = [sys.executable, "-m", "gunicorn", "holding_app:app"]
    service = serve(checkout, command, WEB_CONCURRENCY="1", PYTHONPATH=str(APPS))
    if sent == b"{}":  # once it took its time, it is known to
        assert service.call("POST", "/hold", sent, JSON).status == 200
    (checkout / "hold").touch()
    data = (POST % len(sent)).replace(b"/predict", b"/hold") + b"\r\n" + sent
    clients = [Raw(service.address, data) for _ in range(3)]
    for path in ("/healthz", "/readyz") * 5:
        assert service.call("GET", path).status == 200
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    (checkout / "hold").unlink()
    assert [client.answer()[0] for client in clients] == [200] * 3


def test_a_path_that_is_quick_again_comes_back_from_its_thread(serve, checkout):
    command = [sys.executable, "-m", "gunicorn", "holding_app:app"]
    service = serve(checkout, command, WEB_CONCURRENCY="1", PYTHONPATH=str(APPS))
    [worker] = service.workers()
    threads = lambda: len(list(Path(f"/proc/{worker}/task").iterdir()))  # noqa: E731
    quick = b"%200d" % 1
    for _ in range(3):
        service.call("POST", "/hold", quick, JSON)
    assert threads() == 1
    service.call("POST", "/hold", b"{}", JSON)
    service.call("POST", "/hold", quick, JSON)
    assert threads() == 2
    (checkout / "hold").touch()
    asking = Raw(
        service.address, (POST % len(quick)).replace(b"/predict", b"/hold") + b"\r\n" + quick
    )
    probing = Raw(service.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    probing.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):  # the loop itself is at it
        probing.answer()
    (checkout / "hold").unlink()
    assert asking.answer()[0] == 200


def test_clients_that_leave_leave_no_trace(serve):
    service = serve(WEB_CONCURRENCY="1")
    before = descriptors(service)
    long = msgspec.json.encode({"features": [SETOSA] * 5000})
    for data in (b"", ONE[:20], ONE[:-5], ONE, ONE * 50, POST % len(long) + b"\r\n" + long):
        for _ in range(20):
            client = Raw(service.address, data)
            client.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
            )  # a reset
            client.close()
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    wait_until(lambda: descriptors(service) <= before)
    assert "ERROR" not in service.log


def test_a_client_that_does_not_read_is_not_written_to_without_end(serve):
    service = serve(WEB_CONCURRENCY="1")

    def service_memory():
        resident_pages = Path(f"/proc/{service.workers()[0]}/statm").read_text().split()[1]
        return int(resident_pages) * 4096

    client = Raw(service.address)
    client.socket.settimeout(1)
    before = service_memory()
    asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000  # 100 KB are answered to each
    sent = 0
    with pytest.raises(TimeoutError):  # it is not read either
        while sent < 500:
            client.send(asked)
            sent += 1
    assert service.call("GET", "/healthz").status == 200
    assert service_memory() - before < 64 * 2**20
    client.close()


def gunicorn_with(**settings):
    """Return the command of gunicorn with settings that replace those in gunicorn.conf.py."""
    options = []
    for name, value in settings.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    return [sys.executable, "-m", "gunicorn", *options, "app:app"]


def test_a_request_that_does_not_arrive_is_given_up(serve):
    service = serve(command=gunicorn_with(timeout=2, keep_alive=1), WEB_CONCURRENCY="1")
    half = Raw(service.address, ONE[:-5])
    silent = Raw(service.address)
    idle = Raw(service.address, ONE)
    assert idle.answer()[0] == 200
    assert idle.ended() and silent.ended()
    status, headers, body = half.answer()
    assert (status, headers["connection"]) == (408, "close")
    assert msgspec.json.decode(body) == {"error": "Expected the whole request within 2 s"}
    assert half.ended()


def test_more_clients_than_it_takes_are_told(serve):
    service = serve(command=gunicorn_with(worker_connections=10), WEB_CONCURRENCY="1")
    clients = [Raw(service.address, ONE) for _ in range(10)]
    assert {client.answer()[0] for client in clients} == {200}
    refused = Raw(service.address, ONE)
    assert refused.answer()[0] == 503
    before = descriptors(service)
    refused.close()
    clients.pop().close()
    wait_until(lambda: descriptors(service) < before - 1)
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_bodies_that_wait_are_bounded_together(serve):
    service = serve(WEB_CONCURRENCY="1")

    def memory():
        resident_pages = Path(f"/proc/{service.workers()[0]}/statm").read_text().split()[1]
        return int(resident_pages) * 4096

    before = memory()
    most = MAX_BUFFERED_BYTES // 2**20
    told = 0
    clients = [
        Raw(service.address, POST % 2**20 + b"\r\n" + b" " * (2**20 - 1)) for _ in range(most + 20)
    ]
    for client in clients:
        client.socket.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            told += client.answer()[0] == 503
    assert 20 <= told < most
    assert memory() - before < 1.5 * MAX_BUFFERED_BYTES
    for client in clients:
        client.close()
    wait_until(
        lambda: service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    )


def test_bodies_that_were_answered_make_room(service):
    padded = EXAMPLE_REQUEST.ljust(2**20)
    client = Raw(service.address)
    for _ in range(MAX_BUFFERED_BYTES // 2**20 + 5):
        client.send(POST % len(padded) + b"\r\n" + padded)
        assert client.answer()[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_idle_connections_are_let_go_and_those_that_ask_are_answered(serve, number):
    service = serve(WEB_CONCURRENCY="1")
    idle = Raw(service.address, ONE)
    asking = Raw(service.address, ONE)
    assert idle.answer()[2] == asking.answer()[2] == EXAMPLE_RESPONSE
    service.process.send_signal(number)
    # Each request is answered; the first response after the signal announces the end.
    headers = {}
    while headers.get("connection") != "close":
        asking.send(ONE)
        status, headers, body = asking.answer()
        assert (status, body) == (200, EXAMPLE_RESPONSE)
    assert asking.ended() and idle.ended()
    idle.close()
    asking.close()
    if number == signal.SIGHUP:
        assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_sighup_under_load_loses_no_request(serve):
    service = serve(WEB_CONCURRENCY="2")
    clients = [Client(service.address) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(2):
        before = service.workers()
        count = [len(client.answers) for client in clients]
        wait_until(
            lambda count=count: any(
                len(c.answers) > n + 20 or not c.is_alive()
                for c, n in zip(clients, count, strict=True)
            )
        )
        service.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda before=before: (
                not set(before) & set(service.workers()) and len(service.workers()) == 2
            )
        )
        for i, client in enumerate(clients):
            client.join(0.1)
            if not client.is_alive():
                assert client.fault is None and set(client.answers) == {EXAMPLE_RESPONSE}
                clients[i] = Client(service.address)
                clients[i].start()
    service.process.send_signal(signal.SIGTERM)
    for client in clients:
        client.join(30)
        assert client.fault is None and set(client.answers) == {EXAMPLE_RESPONSE}


@pytest.fixture
def wsgi(checkout):
    def start(name="app"):
        command = [sys.executable, "-m", "gunicorn", f"wsgi_app:{name}"]
        running = Service(command, checkout, environment(WEB_CONCURRENCY="1", PYTHONPATH=str(APPS)))
        started.append(running)
        return running

    started = []
    yield start
    assert [running.stop() for running in started] == [0] * len(started)


def test_an_answer_of_unknown_length_is_sent_as_it_comes(wsgi):
    service = wsgi()
    get = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    whole = b"".join(str(i).encode() * 50000 for i in range(3))
    [first, second], closed = raw(service, get * 2, answers=2)
    for status, headers, body in (first, second):
        assert (status, headers["transfer-encoding"], body) == (200, "chunked", whole)
    assert not closed
    client = Raw(service.address, get.replace(b"1.1", b"1.0"))
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    head, _, body = client.file.read().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head and body == whole
    wait_until(lambda: service.log.count("closed 3") == 3)


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(wsgi):
    service = wsgi()
    client = Raw(service.address, b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
    found = b""
    with pytest.raises(ConnectionError):
        while piece := client.file.read(100):
            found += piece
        raise ConnectionError if not found.endswith(b"0\r\n\r\n") else AssertionError
    wait_until(lambda: "unhandled exception in the response body" in service.log)


def test_a_stream_nobody_reads_ends_with_its_client(wsgi):
    service = wsgi()
    client = Raw(service.address, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    client.close()
    wait_until(lambda: "closed 1000000000" in service.log)


def test_an_application_that_fails_is_a_500_and_the_connection_goes_on(wsgi):
    service = wsgi()
    for path in (b"/broken", b"/split"):
        get = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        for status, headers, body in raw(service, get * 2, answers=2)[0]:
            assert (status, body) == (500, b'{"error":"Internal Server Error"}\n')
            assert "x" not in headers
    assert "ZeroDivisionError" in service.log and "a line break" in service.log


def test_the_reference_validator_finds_no_fault(wsgi):
    service = wsgi("checked")
    for request, expected in (
        (b"GET /?a=b HTTP/1.1\r\nHost: x\r\n\r\n", b"plain"),
        (b"GET /write HTTP/1.1\r\nHost: x\r\n\r\n", b"onetwo"),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
            b"hello world",
        ),
        (
            b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
            b"".join(str(i).encode() * 50000 for i in range(3)),
        ),
    ):
        [(status, _, body)], closed = raw(service, request)
        assert (status, body, closed) == (200, expected, False)
    service.stop()
    assert "Assertion" not in service.log and "Exception" not in service.log


def test_a_worker_that_has_answered_enough_is_replaced(serve, checkout):
    with (checkout / "gunicorn.conf.py").open("a") as file:
        file.write("\nmax_requests = 20\n")
    service = serve(checkout, WEB_CONCURRENCY="1")
    before = service.workers()
    for _ in range(60):
        assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    wait_until(lambda: service.workers() and not set(before) & set(service.workers()))


def test_the_master_has_one_thread_when_it_forks(serve):
    # A thread, such as a BLAS may start, does not survive a fork, but the locks it holds do.
    service = serve()
    assert "\nThreads:\t1\n" in Path(f"/proc/{service.process.pid}/status").read_text()
