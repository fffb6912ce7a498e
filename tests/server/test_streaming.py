"""Any WSGI application: streams, errors, and the WSGI validator."""

import pytest

from connections import RawConnection, exchange
from helpers import wait_until


def test_stream_is_sent_as_it_comes(wsgi):
    """A response of unknown length is sent chunk by chunk."""
    n_closed = wsgi.log.count("closed 3")
    get = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    whole = b"".join(str(i).encode() * 50000 for i in range(3))
    [first, second], closed = exchange(wsgi, get * 2, answers=2)
    for status, headers, body in (first, second):
        assert (status, headers["transfer-encoding"], body) == (200, "chunked", whole)
    assert not closed
    client = RawConnection(wsgi.address, get.replace(b"1.1", b"1.0"))
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    head, _, body = client.file.read().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head and body == whole
    wait_until(lambda: wsgi.log.count("closed 3") >= n_closed + 3)


def test_broken_stream_is_incomplete(wsgi):
    """A response that fails midway is visibly incomplete."""
    client = RawConnection(wsgi.address, b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
    found = b""
    with pytest.raises(ConnectionError):
        while piece := client.file.read(100):
            found += piece
        raise ConnectionError if not found.endswith(b"0\r\n\r\n") else AssertionError
    wait_until(lambda: "unhandled exception in the response body" in wsgi.log)


def test_stream_ends_with_its_client(wsgi):
    """A stream ends when its client disconnects."""
    client = RawConnection(wsgi.address, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    client.close()
    wait_until(lambda: "closed 1000000000" in wsgi.log)


def test_application_error_keeps_connection(wsgi):
    """An error of the application is answered 500, and the connection is kept."""
    for path in (b"/broken", b"/split"):
        get = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        for status, headers, body in exchange(wsgi, get * 2, answers=2)[0]:
            assert (status, body) == (500, b'{"error":"Internal Server Error"}\n')
            assert "x" not in headers
    assert "ZeroDivisionError" in wsgi.log and "a line break" in wsgi.log


def test_wsgi_validator_passes(start_app):
    """The WSGI validator of the standard library finds no error."""
    service = start_app("wsgi_app:checked")
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
        [(status, _, body)], closed = exchange(service, request)
        assert (status, body, closed) == (200, expected, False)
    service.stop()
    assert "Assertion" not in service.log and "Exception" not in service.log


def test_stopping_worker_ends_streams(start_app):
    """A stream that goes on, to a client that does not read, ends with the graceful timeout."""
    service = start_app("wsgi_app:app", GUNICORN_CMD_ARGS="--graceful-timeout 1")
    client = RawConnection(service.address, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    assert service.stop() == 0
    assert "closed 1000000000" in service.log
