"""Chunked bodies: what follows or surrounds the body is no header, and is bounded."""

import msgspec
import pytest

from connections import ONE, RawConnection, exchange
from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE
from processes import peak_bytes, reset_peak
from serving.server.request_reader import MAX_HEADER_BYTES

CHUNKED = b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_trailer_field_is_no_header(wsgi):
    """A trailer field is not merged into the headers, of this request or of the next."""
    request = (
        CHUNKED % b"environ" + b"1\r\na\r\n0\r\nAuthorization: Bearer k\r\nX-User: admin\r\n\r\n"
    )
    responses, is_closed = exchange(wsgi, request + CHUNKED % b"environ" + b"0\r\n\r\n", answers=2)

    assert not is_closed
    for (status, _, body), text in zip(responses, ("a", ""), strict=True):
        environ = msgspec.json.decode(body)
        assert (status, environ["body"]) == (200, text)
        assert not {"HTTP_AUTHORIZATION", "HTTP_X_USER"} & environ.keys()


def test_trailer_opens_no_service(serve):
    """A key in a trailer is no key."""
    service = serve(API_KEYS="k1", WEB_CONCURRENCY="1")
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n") % b"predict"
    body = b"%x\r\n%b\r\n0\r\n" % (len(EXAMPLE_REQUEST), EXAMPLE_REQUEST)
    client = RawConnection(service.address, head + body + b"Authorization: Bearer k1\r\n\r\n")
    assert client.answer()[0] == 401
    with_key = head.replace(b"\r\n", b"\r\nAuthorization: Bearer k1\r\n", 1)
    client.send(with_key + body + b"\r\n")
    assert client.answer()[2] == EXAMPLE_RESPONSE


ENDLESS = {
    "a trailer field": b"0\r\nX: " + b"x" * 100,
    "trailer fields": b"0\r\n" + b"X: x\r\n" * 20,
    "a chunk extension": b"1;x=" + b"x" * 100,
    "chunk extensions": b"1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\na\r\n",
    "a chunk size": b"0" * 100,
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_bytes_around_body_are_bounded(service, kind):
    """Endless bytes after the body, or between its chunks, are answered 431 and not kept."""
    start = ENDLESS[kind]
    repeated = start[-50:]
    if kind in ("trailer fields", "chunk extensions"):
        repeated = start.removeprefix(b"0\r\n")

    before = reset_peak(service)
    client = RawConnection(service.address, CHUNKED % b"predict" + start)
    client.socket.settimeout(5)
    try:
        for _ in range(200):
            client.send(repeated * (MAX_HEADER_BYTES // len(repeated)))
    except (ConnectionError, TimeoutError):
        pass
    assert client.answer()[0] in (400, 431)
    assert peak_bytes(service) - before < 16 * MAX_HEADER_BYTES


def test_short_chunks_are_joined(service):
    """A body in chunks of one byte has more bytes of framing than a head may have, and is read."""
    body = EXAMPLE_REQUEST.ljust(MAX_HEADER_BYTES // 3)
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n") % b"predict"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    [(status, _, content), second], is_closed = exchange(
        service, head + chunks + b"0\r\n\r\n" + ONE, answers=2
    )
    assert (status, content, second[2]) == (200, EXAMPLE_RESPONSE, EXAMPLE_RESPONSE)
    assert not is_closed
