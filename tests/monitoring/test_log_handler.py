"""The handler of the log in an event loop: when a line is written, and with which others."""

import asyncio
import logging
import os

import pytest

from serving.monitoring import log_handler
from serving.monitoring.log_handler import PIPE_BYTES, LineHandler


@pytest.fixture
def pipe():
    """Return a pipe that is read without waiting, and a stream that writes to it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def read(reading):
    """Return the lines that have been written."""
    try:
        return os.read(reading, 2**16).splitlines()
    except BlockingIOError:
        return []


def run_in_loop(stream, steps):
    """Run the coroutine `steps` with a handler that writes in its loop."""

    async def run():
        handler = LineHandler()
        handler.setStream(stream)
        handler.attach(asyncio.get_running_loop())
        await steps(handler)
        handler.flush()

    asyncio.run(run())


def test_record_is_written_at_once(pipe):
    """A line of a request waits for others; a record does not, and those before it go first."""
    reading, stream = pipe

    async def steps(handler):
        handler.write_line(b"request")
        assert read(reading) == []
        handler.emit(logging.makeLogRecord({"msg": "record"}))
        assert read(reading) == [b"request", b"record"]

    run_in_loop(stream, steps)


def test_full_batch_is_written_at_once(pipe):
    """Lines are written together as soon as the next one would not fit into a pipe with them."""
    reading, stream = pipe
    line = b"x" * 999

    async def steps(handler):
        for _ in range(PIPE_BYTES // 1000):
            handler.write_line(line)
        assert read(reading) == []
        handler.write_line(line)
        assert read(reading) == [line] * (PIPE_BYTES // 1000)

    run_in_loop(stream, steps)


def test_single_line_is_written_soon(pipe, monkeypatch):
    """A line that no other follows is written by the loop."""
    monkeypatch.setattr(log_handler, "BATCH_SECONDS", 0.0)
    reading, stream = pipe

    async def steps(handler):
        handler.write_line(b"request")
        for _ in range(10_000):  # turns of the loop
            await asyncio.sleep(0)
        assert read(reading) == [b"request"]

    run_in_loop(stream, steps)
