"""Signals: a stopping, reloading or replaced worker loses no request."""

import os
import signal
from pathlib import Path

import pytest

from connections import ONE, RawConnection, gunicorn_with
from helpers import (
    EXAMPLE_REQUEST,
    EXAMPLE_RESPONSE,
    JSON,
    Client,
    Service,
    environment,
    wait_until,
)


def test_stopping_worker_ends_connections(serve):
    """A stopping worker answers requests, announces the end, and closes idle connections."""
    # Both at once: each waits until its idle connections are closed.
    idle_clients = []
    services = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        service = serve(WEB_CONCURRENCY="1")
        idle = RawConnection(service.address, ONE)
        client = RawConnection(service.address, ONE)
        assert idle.answer()[2] == client.answer()[2] == EXAMPLE_RESPONSE
        service.process.send_signal(number)
        idle_clients += [idle, client]
        services[number] = service

        # Each request is answered; the first response after the signal announces the end.
        headers = {}
        while headers.get("connection") != "close":
            client.send(ONE)
            status, headers, body = client.answer()
            assert (status, body) == (200, EXAMPLE_RESPONSE)

    assert all(client.ended() for client in idle_clients)
    reloaded = services[signal.SIGHUP]
    assert reloaded.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE


def test_sighup_loses_no_request(serve):
    """A reload under load loses no request."""
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


def test_max_requests_replaces_worker(serve, checkout):
    """A worker is replaced after max_requests responses."""
    with (checkout / "gunicorn.conf.py").open("a") as file:
        file.write("\nmax_requests = 20\n")
    service = serve(checkout, WEB_CONCURRENCY="1")
    before = service.workers()
    for _ in range(60):
        assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    wait_until(lambda: service.workers() and not set(before) & set(service.workers()))


@pytest.mark.parametrize("worker_class", ["serving.server.worker.Worker", "gthread"])
def test_worker_is_stopped_while_it_starts(checkout, worker_class):
    """A signal that arrives before the worker handles it stops the worker nevertheless."""
    with (checkout / "gunicorn.conf.py").open("a") as file:
        file.write(
            """
import time

graceful_timeout = 3
attach_worker = post_fork


def post_fork(server, worker):
    if worker.slot == 2:
        time.sleep(1)
    attach_worker(server, worker)
"""
        )
    env = environment(checkout, WEB_CONCURRENCY="2")
    service = Service(gunicorn_with(worker_class=worker_class), checkout, env)
    assert service.stop() == 0
    assert service.log.count("Worker exiting") == 2  # none had to be killed


def test_master_forks_with_one_thread(serve):
    """The master has one thread when it forks."""
    # A thread, such as a BLAS may start, does not survive a fork, but the locks it holds do.
    service = serve()
    assert "\nThreads:\t1\n" in Path(f"/proc/{service.process.pid}/status").read_text()


@pytest.mark.parametrize("worker_class", ["serving.server.worker.Worker", "gthread"])
def test_worker_ends_without_end_of_interpreter(checkout, worker_class):
    """A worker that stops writes its log and calls what is registered, but frees no object.

    Freeing them would copy the memory that all workers share.
    """
    application = checkout / "app.py"
    application.write_text(
        application.read_text()
        + """

class Canary:
    def __del__(self, write=os.write):
        write(2, b"object freed\\n")


sys.canary = Canary()
import atexit

atexit.register(lambda: log.warning("registered"))
"""
    )
    env = environment(checkout, WEB_CONCURRENCY="1")
    service = Service(gunicorn_with(worker_class=worker_class), checkout, env)
    [worker] = service.workers()
    assert service.call("POST", "/predict", EXAMPLE_REQUEST, JSON).body == EXAMPLE_RESPONSE
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: worker not in service.workers())
    assert service.stop() == 0
    assert service.log.count('"registered"') == 3  # by two workers and the master
    assert service.log.count("object freed") == 1  # by the master alone
