"""HTTP/1.1 on one connection: requests in any pieces, malformed requests, and keep-alive."""

import socket
import threading

import msgspec
import pytest

from connections import ONE, POST, RawConnection, exchange
from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    SETOSA,
)
from serving.server.environ import cgi_variable_name
from serving.server.request_reader import MAX_HEADER_BYTES

MAX_HEADER_FIELDS = 100  # gunicorn's default


def test_connection_is_kept_alive(service):
    """A connection is kept, and each response is complete."""
    client = RawConnection(service.address)
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


def test_pipelined_requests_keep_order(service):
    """Pipelined requests are answered in their order."""
    ids = [f"id-{i}" for i in range(200)]
    long = msgspec.json.encode(
        {"features": [SETOSA] * 3000}
    )  # to a thread, between two that are not
    requests = [ONE.replace(b"\r\n", f"\r\nX-Request-ID: {i}\r\n".encode(), 1) for i in ids]
    requests[100] = POST % len(long) + b"X-Request-ID: id-100\r\n\r\n" + long
    client = RawConnection(service.address)
    sender = threading.Thread(target=client.send, args=(b"".join(requests),))
    sender.start()
    assert [client.answer()[1]["x-request-id"] for _ in ids] == ids
    sender.join()
    client.close()


@pytest.mark.parametrize("size", [1, 7])
def test_requests_arrive_in_any_pieces(service, size):
    """Requests may arrive in pieces of any size."""
    client = RawConnection(service.address)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(0, len(ONE), size):
        client.send(ONE[i : i + size])
    assert client.answer()[2] == EXAMPLE_RESPONSE
    client.close()


def test_chunked_body_is_joined(service):
    """The chunks of a body are joined."""
    data = POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"\r\n"
    for i in range(0, len(EXAMPLE_REQUEST), 10):
        part = EXAMPLE_REQUEST[i : i + 10]
        data += b"%x\r\n%b\r\n" % (len(part), part)
    [(status, _, body), second], closed = exchange(service, data + b"0\r\n\r\n" + ONE, answers=2)
    assert (status, body, second[2], closed) == (200, EXAMPLE_RESPONSE, EXAMPLE_RESPONSE, False)


KEEP_ALIVE_CASES = {
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
        True,
        None,
    ),
}


@pytest.mark.parametrize("how", KEEP_ALIVE_CASES)
def test_keep_alive_needs_both_sides(service, how):
    """A connection is kept if client and server agree."""
    data, kept, said = KEEP_ALIVE_CASES[how]
    [(status, headers, body)], closed = exchange(service, data)
    assert (status, body, closed, headers.get("connection")) == (
        200,
        EXAMPLE_RESPONSE,
        not kept,
        said,
    )


def test_data_after_last_request_is_ignored(service):
    """Nothing is read after a request with Connection: close."""
    data = ONE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + ONE
    found, closed = exchange(service, data)
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
def test_malformed_requests_are_rejected(service, fault):
    """A malformed request is answered 400 in JSON, and the connection ends."""
    [(status, headers, body)], closed = exchange(service, MALFORMED[fault])
    assert (status, headers["content-type"], closed) == (400, "application/json", True)
    assert list(msgspec.json.decode(body)) == ["error"]


def test_valid_request_before_malformed_is_answered(service):
    """A valid request is answered before a malformed one ends the connection."""
    [first, second], closed = exchange(service, ONE + b"hello\r\n\r\n", answers=2)
    assert (first[0], second[0], closed) == (200, 400, True)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEADER_BYTES,
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * MAX_HEADER_BYTES,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(MAX_HEADER_FIELDS + 2)),
    ],
)
def test_endless_headers_are_rejected(service, endless):
    """Headers beyond the limits are answered 431."""
    [(status, _, body)], closed = exchange(service, endless)
    assert (status, closed) == (431, True)
    assert msgspec.json.decode(body) == {
        "error": f"Expected at most {MAX_HEADER_BYTES} bytes "
        f"and {MAX_HEADER_FIELDS} fields of headers"
    }


def test_header_with_underscore_is_dropped():
    """A header with an underscore does not pass for another header."""
    assert cgi_variable_name(b"X-Request-Id") == "HTTP_X_REQUEST_ID"
    assert cgi_variable_name(b"X_Request_Id") == ""
    assert cgi_variable_name(b"content-type") == "CONTENT_TYPE"


def test_request_target_forms_are_decoded(service):
    """A path is decoded, and the form for a proxy is accepted."""
    for target, status in (
        (b"/health%7a", 200),
        (b"http://x/healthz", 200),
        (b"/healthz?a=%20", 200),
        (b"/%2e", 404),
    ):
        [(found, _, _)], _ = exchange(service, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert found == status, target
    [(status, headers, _)], _ = exchange(service, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200 and headers["allow"]


def test_head_response_has_no_body(service):
    """A response to HEAD has the length and no body."""
    client = RawConnection(service.address, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
    head = b""
    while (line := client.file.readline()) != b"\r\n":
        head += line
    assert b"Content-Length: 19\r\n" in head
    client.send(ONE)
    assert client.answer()[2] == EXAMPLE_RESPONSE
    client.close()


def test_expect_continue_is_answered(service):
    """A client that waits for 100 Continue receives it."""
    client = RawConnection(
        service.address, POST % len(EXAMPLE_REQUEST) + b"Expect: 100-continue\r\n\r\n"
    )
    assert (
        client.file.readline() == b"HTTP/1.1 100 Continue\r\n" and client.file.readline() == b"\r\n"
    )
    client.send(EXAMPLE_REQUEST)
    assert client.answer()[2] == EXAMPLE_RESPONSE
    client.close()
    client = RawConnection(service.address, POST % 10**9 + b"Expect: 100-continue\r\n\r\n")
    assert client.answer()[0] == 413
    assert client.ended()
    client.close()


def test_large_body_is_rejected_readably(service):
    """A body beyond the limit is answered 413, and the client can read the response."""
    # The client sends on while it is answered; a connection that was reset would lose the answer.
    client = RawConnection(service.address, POST % (64 * 2**20) + b"\r\n")
    for _ in range(64):
        client.send(b" " * 2**20)
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (413, "close")
    client.close()


def test_half_closed_client_is_answered(service):
    """A client that closes its side is answered."""
    long = msgspec.json.encode({"features": [SETOSA] * 5000})
    for data in (ONE, POST % len(long) + b"\r\n" + long):
        client = RawConnection(service.address, data)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer()[0] == 200
        assert client.ended()
        client.close()
