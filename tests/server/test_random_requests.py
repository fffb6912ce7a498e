"""Changed requests, cut anywhere: the answers do not depend on the cuts, and none is an error."""

import itertools
import re
import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connections import RawConnection
from request_table import TABLE, encode

MAX_LENGTH = 500
REQUESTS = [encode(case[0]) for case in itertools.chain.from_iterable(TABLE.values())]
SHORT_REQUESTS = [data for data in REQUESTS if len(data) < MAX_LENGTH and b" /exit" not in data]
FRAGMENTS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b";", b"0", b"5", b"\0", b"\xff", b"a"]

change = st.tuples(
    st.integers(0, MAX_LENGTH),
    st.integers(0, 3),
    st.sampled_from([b"", *FRAGMENTS]),
)


def apply_changes(data, changes):
    """Return the data with some bytes replaced by others."""
    for position, n_bytes, fragment in changes:
        start = position % (len(data) + 1)
        data = data[:start] + fragment + data[start + n_bytes :]
    return data


def statuses(address, pieces):
    """Return the statuses of all responses to the pieces, after which the client says no more."""
    client = RawConnection(address)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for piece in pieces:
            client.send(piece)
        client.socket.shutdown(socket.SHUT_WR)
        return re.findall(rb"HTTP/1\.1 (\d{3}) ", client.file.read())
    finally:
        client.close()


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    data=st.lists(st.sampled_from(SHORT_REQUESTS), min_size=1, max_size=3).map(b"".join),
    changes=st.lists(change, max_size=3),
    cuts=st.lists(st.integers(0, 3 * MAX_LENGTH), max_size=8),
)
def test_cuts_change_no_answer(wsgi, data, changes, cuts):
    """A changed request is answered alike whole and in pieces."""
    data = apply_changes(data, changes)
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[start:end] for start, end in itertools.pairwise(bounds)]
    whole = statuses(wsgi.address, [data])
    assert statuses(wsgi.address, pieces) == whole
    pairs = [data[start : start + 2] for start in range(0, len(data), 2)]
    assert statuses(wsgi.address, pairs) == whole
    assert wsgi.call("GET", "/").status == 200
