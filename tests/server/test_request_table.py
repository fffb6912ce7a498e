"""The table of raw requests, whole and in pieces."""

import itertools
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import pytest

from connections import RawConnection
from documentation import table
from request_table import DIFFERENT_UNDER_GTHREAD, TABLE, encode

PIECES = (65536, 3, 1)
MAX_BYTES_IN_PIECES = 2000  # longer requests are sent in larger pieces, which takes less time


def send_in_pieces(client, data, n_bytes):
    """Send data piece by piece; a server may have closed the connection before the last one."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if len(data) > MAX_BYTES_IN_PIECES:
        n_bytes *= 100
    try:
        for start in range(0, len(data), n_bytes):
            client.send(data[start : start + n_bytes])
    except ConnectionError:
        pass


def read_responses(client, data, answers):
    """Return the statuses as in the table, and the body of the last response."""
    n_responses = len(answers.removesuffix("close").split())
    found = []
    body = b""
    for i in range(n_responses):
        is_head = i == 0 and data.startswith(b"HEAD")
        status, _, body = client.answer(has_body=not is_head)
        found.append(str(status))
    if client.is_closed():
        found.append("close")
    return " ".join(found), body


def check(address, case, n_bytes):
    """Return what differs from the table, or None."""
    text, answers, *environ = case
    data = encode(text)
    client = RawConnection(address)
    try:
        send_in_pieces(client, data, n_bytes)
        if answers == "pending":
            client.socket.shutdown(socket.SHUT_WR)
            if client.file.read(1):
                return text[:200], n_bytes, "answered"
            return None
        found, body = read_responses(client, data, answers)
    except (OSError, IndexError) as error:
        return text[:200], n_bytes, answers, repr(error)
    finally:
        client.close()

    if found != answers:
        return text[:200], n_bytes, answers, found
    for name, value in (environ or [{}])[0].items():
        if msgspec.json.decode(body).get(name) != value:
            return text[:200], n_bytes, name, body
    return None


def run_checks(service, cases, sizes):
    """Return what differs from the table, for each case in pieces of each size."""
    with ThreadPoolExecutor(8) as pool:
        checks = [
            pool.submit(check, service.address, case, n_bytes)
            for case in cases
            for n_bytes in sizes
        ]
    return [differing for done in checks if (differing := done.result())]


@pytest.mark.parametrize("kind", TABLE)
def test_request_is_answered_as_in_table(wsgi, kind):
    """Each request is answered as the table says, in pieces of any size."""
    assert run_checks(wsgi, TABLE[kind], PIECES) == []


def test_valid_request_is_answered_under_gthread(start_app):
    """With `worker_class = "gthread"` a valid request reaches the application as it does here."""
    # On a socket for both protocols gthread calls a client of IPv4 ::ffff:127.0.0.1.
    arguments = "--worker-class gthread --bind 127.0.0.1:0"
    service = start_app("wsgi_app:app", GUNICORN_CMD_ARGS=arguments)
    cases = []
    for text, answers, *environ in itertools.chain.from_iterable(TABLE.values()):
        if answers == "200" and text not in DIFFERENT_UNDER_GTHREAD and "/exit" not in text:
            cases.append((text, answers, *environ))

    assert len(cases) > 80
    assert run_checks(service, cases, PIECES) == []


def test_document_counts_refused_requests(start_app):
    """docs/server.md says how many requests that must be refused are served, by kind."""
    service = start_app("wsgi_app:app", GUNICORN_CMD_ARGS="--worker-class gthread")
    rows = []
    for kind, cases in TABLE.items():
        refused = [case for case in cases if is_refused(case)]
        with ThreadPoolExecutor(8) as pool:
            n_served = sum(pool.map(partial(is_served, service.address), refused))
        if refused:
            rows.append([kind, str(len(refused)), "0", str(n_served)])
    assert rows == table("server.md", "Requests that must be refused")


def is_refused(case):
    """Return whether a single request of the table must be refused."""
    status, _, end = case[1].partition(" ")
    return status[0] in "45" and end == "close"


def is_served(address, case):
    """Return whether a server passes a request to its application."""
    client = RawConnection(address)
    client.socket.settimeout(2)
    try:
        send_in_pieces(client, encode(case[0]), PIECES[0])
        return client.file.readline().startswith(b"HTTP/1.1 200")
    except OSError:
        return False
    finally:
        client.close()


def test_table_is_long():
    """The table has at least 200 requests, each of them once."""
    texts = [case[0] for cases in TABLE.values() for case in cases]
    assert len(texts) >= 200
    assert len(set(texts)) == len(texts)
