"""Slow, silent, lost and excess clients: nobody waits for them, and their memory is bounded."""

import socket

import msgspec
import pytest

from connections import ONE, OPENED, POST, RawConnection, gunicorn_with
from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    SETOSA,
    half_sent,
    wait_until,
)
from processes import n_descriptors, peak_bytes, reset_peak
from serving.server.body_buffer import MAX_BUFFERED_BYTES


def test_slow_clients_delay_nobody(service):
    """Idle and slow clients do not delay other clients."""
    idle = [RawConnection(service.address) for _ in range(500)]
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


def test_lost_clients_leave_no_n_descriptors(service):
    """Clients that disconnect at any point leave no open descriptor."""
    before = n_descriptors(service)
    long = msgspec.json.encode({"features": [SETOSA] * 5000})
    for data in (b"", ONE[:20], ONE[:-5], ONE, ONE * 50, POST % len(long) + b"\r\n" + long):
        for _ in range(20):
            client = RawConnection(service.address, data)
            client.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
            )  # a reset
            client.close()
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    wait_until(lambda: n_descriptors(service) <= before)
    assert "ERROR" not in service.log


def test_unread_responses_are_bounded(service):
    """Responses to a client that does not read take bounded memory."""
    client = RawConnection(service.address)
    client.socket.settimeout(1)
    before = reset_peak(service)
    asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000  # 100 KB are answered to each
    sent = 0
    with pytest.raises(TimeoutError):  # it is not read either
        while sent < 500:
            client.send(asked)
            sent += 1
    assert service.call("GET", "/healthz").status == 200
    assert peak_bytes(service) - before < 64 * 2**20
    client.close()


def test_incomplete_request_times_out(serve):
    """Incomplete requests, silent and idle clients time out."""
    service = serve(command=gunicorn_with(timeout=2, keep_alive=1), WEB_CONCURRENCY="1")
    half = RawConnection(service.address, ONE[:-5])
    silent = RawConnection(service.address)
    idle = RawConnection(service.address, ONE)
    assert idle.answer()[0] == 200
    assert idle.ended() and silent.ended()
    status, headers, body = half.answer()
    assert (status, headers["connection"]) == (408, "close")
    assert msgspec.json.decode(body) == {"error": "Expected the rest of the request within 2 s"}
    assert half.ended()


def test_excess_clients_receive_503(serve):
    """Clients beyond worker_connections receive 503."""
    service = serve(command=gunicorn_with(worker_connections=10), WEB_CONCURRENCY="1")
    clients = [RawConnection(service.address, ONE) for _ in range(10)]
    assert {client.answer()[0] for client in clients} == {200}
    refused = RawConnection(service.address, ONE)
    status, headers, _ = refused.answer()
    assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    before = n_descriptors(service)
    refused.close()
    clients.pop().close()
    wait_until(lambda: n_descriptors(service) < before - 1)
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_waiting_bodies_are_bounded_together(service):
    """The bodies of all clients together are bounded."""
    before = reset_peak(service)
    n_refused = service.log.count("Request body buffer is full")
    data = POST % 2**20 + b"\r\n" + b" " * (2**20 - 1)
    for _ in range(MAX_BUFFERED_BYTES // 2**20 + 20):
        RawConnection(service.address, data)

    wait_until(lambda: service.log.count("Request body buffer is full") >= n_refused + 19)
    assert peak_bytes(service) - before < 1.5 * MAX_BUFFERED_BYTES
    while OPENED:
        OPENED.pop().close()
    wait_until(
        lambda: service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    )


def test_answered_bodies_make_room(service):
    """The bytes of an answered body are released."""
    padded = EXAMPLE_REQUEST.ljust(2**20)
    client = RawConnection(service.address)
    for _ in range(MAX_BUFFERED_BYTES // 2**20 + 5):
        client.send(POST % len(padded) + b"\r\n" + padded)
        assert client.answer()[0] == 200


def test_idle_clients_hold_no_bodies(service):
    """A client whose request was answered occupies no memory for its body."""
    before = reset_peak(service)
    padded = EXAMPLE_REQUEST.ljust(2**20)
    for _ in range(100):
        client = RawConnection(service.address, POST % len(padded) + b"\r\n" + padded)
        assert client.answer()[2] == EXAMPLE_RESPONSE
    assert peak_bytes(service) - before < 50 * 2**20
