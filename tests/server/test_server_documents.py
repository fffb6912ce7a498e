"""SECURITY.md and docs/server.md: their tests exist, and their numbers are those of the code."""

import re

import pytest

from documentation import flat_text, table
from helpers import ROOT
from manifests import gunicorn_settings
from serving.server.body_buffer import MAX_BUFFERED_BYTES
from serving.server.path_costs import MIN_QUICK_RUNS, SLOW_REQUEST_SECONDS
from serving.server.request_reader import MAX_HEADER_BYTES
from serving.server.response_limit import MAX_QUEUED_BYTES
from serving.server.worker import MAX_INLINE_BODY_BYTES, MAX_STREAMS

SECURITY = (ROOT / "SECURITY.md").read_text()
NAMED_TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SECURITY)
MIB = 2**20


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED_TESTS)))
def test_named_test_exists(path, name):
    """Each test that SECURITY.md names exists."""
    assert f"def {name}(" in (ROOT / path).read_text()


def test_each_boundary_names_a_test():
    """Each row of SECURITY.md names its test, and the limits are those of the code."""
    rows = [line for line in SECURITY.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == len(NAMED_TESTS) + 2  # the heads of two tables
    assert f"{MAX_HEADER_BYTES // 1024} KiB" in SECURITY
    assert f"{MAX_BUFFERED_BYTES // MIB} MiB" in SECURITY
    assert f"{MAX_QUEUED_BYTES // MIB} MiB" in SECURITY


def test_limits_match_code():
    """The limits are those of gunicorn.conf.py and of the worker."""
    settings = gunicorn_settings()
    assert [limit for _, limit, _ in table("server.md", "Limits")] == [
        f"{settings['limit_request_line']} bytes",
        f"{settings['limit_request_field_size']} bytes",
        f"{settings['limit_request_fields']}",
        f"{MAX_HEADER_BYTES} bytes",
        f"{MAX_HEADER_BYTES} bytes",
        f"{MAX_BUFFERED_BYTES // MIB} MiB",
        f"{MAX_QUEUED_BYTES // MIB} MiB",
        f"{settings['worker_connections']}",
        f"{settings['timeout']} s",
        f"{settings['keepalive']} s",
    ]


def test_threads_match_code():
    """The numbers of threads are those of the worker."""
    threads = [int(number) for _, number in table("server.md", "Threads")]
    assert threads == [gunicorn_settings()["threads"], MAX_STREAMS, 1]
    text = flat_text("server.md")
    milliseconds = SLOW_REQUEST_SECONDS * 1000
    assert f"{MIN_QUICK_RUNS} requests that computed for less than {milliseconds:.0f} ms" in text
    assert f"bodies above {MAX_INLINE_BODY_BYTES // 1024} KiB" in text
