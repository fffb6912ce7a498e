"""Clients that leave: no error in the log, nothing of their request in it, no descriptor kept."""

import socket

from connections import ONE, POST, RawConnection, exchange
from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE, gunicorn, wait_until
from processes import descriptor_limit, n_descriptors

RESET_ON_CLOSE = b"\x01\0\0\0\0\0\0\0"


def test_client_that_left_is_no_error(wsgi, wsgi_hold_file):
    """A response that ends after its client has left is no error."""
    wsgi_hold_file.touch()
    before = n_descriptors(wsgi)
    client = RawConnection(wsgi.address, b"GET /held HTTP/1.0\r\nX-Api-Key: secret\r\n\r\n")
    while client.file.readline() != b"\r\n":
        pass
    assert client.file.read(5) == b"first"
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    client.close()
    wsgi_hold_file.unlink()

    wait_until(lambda: n_descriptors(wsgi) < before + 1)
    assert exchange(wsgi, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0][0][0] == 200
    assert "OSError" not in wsgi.log
    assert "Exception in callback" not in wsgi.log


def test_log_contains_no_request(wsgi):
    """An error of a response that a thread computes is logged without the request."""
    head = (POST % 20_000).replace(b"/predict", b"/cyrillic")
    request = head + b"Authorization: Bearer secret-key\r\n\r\n" + b"x" * 20_000
    [(status, _, body)], is_closed = exchange(wsgi, request)
    assert (status, body, is_closed) == (500, b'{"error":"Internal Server Error"}\n', False)
    assert "secret-key" not in wsgi.log
    assert "UnicodeEncodeError" in wsgi.log


def test_descriptor_limit_is_raised(serve):
    """A worker raises its limit of open files to the one that it may have."""
    service = serve(command=gunicorn("prlimit", "--nofile=100:3000"), WEB_CONCURRENCY="1")
    assert descriptor_limit(service) == 3000
    clients = [RawConnection(service.address, ONE) for _ in range(200)]
    assert {client.answer()[2] for client in clients} == {EXAMPLE_RESPONSE}


def test_descriptors_do_not_run_out(serve):
    """A worker accepts no connection for which it has no descriptor, and logs no flood."""
    service = serve(command=gunicorn("prlimit", "--nofile=250:250"), WEB_CONCURRENCY="1")
    clients = [RawConnection(service.address) for _ in range(400)]
    first = clients[0]
    for _ in range(20):
        first.send(ONE)
        assert first.answer()[2] == EXAMPLE_RESPONSE
    for client in clients[1:]:
        client.close()

    first.send(POST % len(EXAMPLE_REQUEST) + b"\r\n" + EXAMPLE_REQUEST)
    assert first.answer()[2] == EXAMPLE_RESPONSE
    wait_until(lambda: service.call("GET", "/healthz").status == 200)
    assert "out of system resource" not in service.log
    assert service.log.count("\n") < len(clients)
