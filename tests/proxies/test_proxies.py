"""Behind a proxy: no request is lost in a reload, and a lost worker or client harms no other."""

import os
import signal
import socket
import threading
import time

import pytest

from connections import ONE, RawConnection
from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE, JSON, half_sent, over_http, wait_until
from proxies.conftest import PROXIES

N_CLIENTS = 4
LARGE = {"MAX_ROWS": "100000", "MAX_BODY_BYTES": "4000000"}


class Load:
    """Clients that send the example request without pause, each on a connection of its own."""

    def __init__(self, address):
        self.address = address
        self.answers = []
        self.is_running = True
        self.threads = [threading.Thread(target=self.run) for _ in range(N_CLIENTS)]

    def run(self):
        while self.is_running:
            answer = over_http(self.address, "POST", "/predict", EXAMPLE_REQUEST, JSON)
            self.answers.append((answer.status, answer.body))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for(50)
        return self

    def __exit__(self, *_):
        self.is_running = False
        for thread in self.threads:
            thread.join()

    def wait_for(self, n_more):
        """Return after so many further answers."""
        n_answers = len(self.answers) + n_more
        wait_until(lambda: len(self.answers) >= n_answers)


@pytest.mark.parametrize("name", PROXIES)
def test_reload_loses_no_request(serve, start_proxy, name):
    """While SIGHUP replaces the workers, twice, every request is answered."""
    service = serve(WEB_CONCURRENCY="2")
    with Load(start_proxy(name, service.address)) as load:
        for _ in range(2):
            before = set(service.workers())
            service.process.send_signal(signal.SIGHUP)
            wait_until(
                lambda before=before: (
                    not before & set(service.workers()) and len(service.workers()) == 2
                )
            )
        load.wait_for(50)
    assert set(load.answers) == {(200, EXAMPLE_RESPONSE)}


@pytest.mark.parametrize("name", PROXIES)
def test_killed_worker_loses_its_requests_only(serve, start_proxy, name):
    """A worker that is killed loses at most the requests it has; the proxy says so."""
    service = serve(WEB_CONCURRENCY="2")
    with Load(start_proxy(name, service.address)) as load:
        victim = service.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in service.workers() and len(service.workers()) == 2)
        load.wait_for(100)
        n_answers = len(load.answers)
        load.wait_for(100)

    lost = [answer for answer in load.answers if answer != (200, EXAMPLE_RESPONSE)]
    assert {status for status, _ in lost} <= {502}
    assert len(lost) <= N_CLIENTS
    assert set(load.answers[n_answers:]) == {(200, EXAMPLE_RESPONSE)}


@pytest.mark.parametrize("name", PROXIES)
def test_client_that_leaves_harms_no_other(serve, start_proxy, name):
    """Clients leave in the middle of a request, or before its response; others are served."""
    service = serve(WEB_CONCURRENCY="1")
    address = start_proxy(name, service.address)
    with Load(address) as load:
        for _ in range(50):
            half_sent(address).close()
            client = RawConnection(address, ONE)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
    assert set(load.answers) == {(200, EXAMPLE_RESPONSE)}
    assert "ERROR" not in service.log


@pytest.mark.parametrize("name", PROXIES)
def test_slow_reader_receives_whole_response(serve, start_proxy, name):
    """A client that reads steadily for longer than the timeout receives all of a response."""
    body = b'{"features":[%s],"outputs":["probability"]}' % b",".join(
        [b"[5.1,3.5,1.4,0.2]"] * 100_000
    )
    service = serve(GUNICORN_CMD_ARGS="--timeout 2 --workers 1", **LARGE)
    whole = over_http(service.address, "POST", "/predict", body, JSON).body
    assert len(whole) > 5_000_000  # more than the sockets hold
    address = start_proxy(name, service.address)

    client = RawConnection.__new__(RawConnection)
    narrow = socket.socket()
    narrow.settimeout(20)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    host, port = address.split(":")
    narrow.connect((host, int(port)))
    client.adopt(narrow)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    client.send(b"%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body))

    received = b""
    n_steps = 60
    while part := client.file.read1(len(whole) // n_steps):
        received += part
        time.sleep(0.1)  # six seconds in all
    assert received.partition(b"\r\n\r\n")[2] == whole
