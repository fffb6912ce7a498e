"""Clients that are slow but steady are served to the end; those that hoard memory are not."""

import contextlib
import socket
import threading
import time

import pytest

from connections import POST, RawConnection, exchange
from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE, wait_until
from processes import peak_bytes, reset_peak
from serving.server.response_limit import MAX_QUEUED_BYTES

LARGE_BYTES = 8 * 2**20
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def narrow_client(address, data):
    """Return a connection whose receive buffer is small, so that the answer waits in the worker."""
    client = RawConnection.__new__(RawConnection)
    host, port = address.split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    narrow.settimeout(20)
    narrow.connect((host, int(port)))
    client.adopt(narrow)
    client.send(data)
    return client


def read_slowly(client, seconds, lengths):
    """Read the answer in equal steps of a tenth of a second; append how many bytes came."""
    step_bytes = LARGE_BYTES // int(seconds * 10)
    received = b""
    while len(received) < LARGE_BYTES:
        part = client.file.read1(step_bytes)
        if not part:
            break
        received += part
        time.sleep(0.1 * len(part) / step_bytes)
    lengths.append(len(received.partition(b"\r\n\r\n")[2]) + len(client.file.read()))


def test_timeout_counts_silence(start_app):
    """A time limit counts from the last byte that moved, for a request and for a response."""
    wsgi = start_app("wsgi_app:app", GUNICORN_CMD_ARGS="--timeout 2")
    lengths = []
    readers = []
    for _ in range(5):
        client = narrow_client(wsgi.address, GET_LARGE)
        readers.append(threading.Thread(target=read_slowly, args=(client, 5, lengths)))
        readers[-1].start()

    body = b"x" * 20
    writer = RawConnection(wsgi.address)
    for byte in (POST % len(body)).replace(b"/predict", b"/environ") + b"\r\n":
        writer.send(bytes([byte]))
    for byte in body:
        time.sleep(0.25)
        writer.send(bytes([byte]))
    assert writer.answer()[0] == 200

    for reader in readers:
        reader.join()
    assert lengths == [LARGE_BYTES] * 5


def test_silent_reader_is_cut(start_app):
    """A client that stops reading loses its connection."""
    wsgi = start_app("wsgi_app:app", GUNICORN_CMD_ARGS="--timeout 2")
    client = narrow_client(wsgi.address, GET_LARGE)
    wait_until(lambda: "stopped reading" in wsgi.log)
    with contextlib.suppress(ConnectionError):
        assert len(client.file.read()) < LARGE_BYTES


def test_unread_responses_are_bounded_together(wsgi):
    """Beyond the limit the client that hoards is cut off, and the next client is answered."""
    before = reset_peak(wsgi)
    n_hoarders = 3 * MAX_QUEUED_BYTES // LARGE_BYTES
    hoarders = [narrow_client(wsgi.address, GET_LARGE) for _ in range(n_hoarders)]
    [(status, _, body)], _ = exchange(wsgi, GET_LARGE)
    assert (status, len(body)) == (200, LARGE_BYTES)
    assert peak_bytes(wsgi) - before < MAX_QUEUED_BYTES + 8 * LARGE_BYTES

    lengths = []
    for client in hoarders:
        try:
            lengths.append(len(client.file.read()))
        except ConnectionError:
            lengths.append(0)
    complete = [length for length in lengths if length > LARGE_BYTES]
    assert 0 < len(complete) < n_hoarders


def test_hoarder_of_bodies_is_refused(service):
    """Beyond the limit of bodies the client that holds most is refused, not the newcomer."""
    padded = EXAMPLE_REQUEST.ljust(2**20)
    data = POST % len(padded) + b"\r\n" + padded[:-1]
    hoarders = [RawConnection(service.address, data) for _ in range(40)]
    wait_until(lambda: service.call("GET", "/healthz").status == 200)

    for _ in range(5):
        client = RawConnection(service.address, data)
        client.send(padded[-1:])
        assert client.answer()[2] == EXAMPLE_RESPONSE
    for client in hoarders:
        client.close()


@pytest.mark.parametrize("n_connections", [100])
def test_pipelined_requests_are_bounded(service, n_connections):
    """Requests that wait on their connection are bytes, and few of them."""
    before = reset_peak(service)
    data = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 8000
    clients = [RawConnection(service.address) for _ in range(n_connections)]
    for client in clients:
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.socket.send(data)

    assert service.call("GET", "/healthz").status == 200
    assert peak_bytes(service) - before < 100 * 2**20
    for client in clients:
        client.close()


def test_head_is_counted_from_its_first_byte(service):
    """Bytes of an earlier request do not count in the head of the next."""
    padded = EXAMPLE_REQUEST.ljust(100_000)
    client = RawConnection(service.address)
    for _ in range(5):
        client.send(POST % len(padded) + b"\r\n" + padded + POST[:10])
        assert client.answer()[2] == EXAMPLE_RESPONSE
        client.send(POST[10:] % len(EXAMPLE_REQUEST) + b"\r\n" + EXAMPLE_REQUEST)
        assert client.answer()[2] == EXAMPLE_RESPONSE
