"""The handler of the log: to stderr, without making a request wait."""

import contextlib
import logging
import os
import select
import sys
import threading
from typing import Any

PIPE_BYTES = 4096  # a pipe that is ready takes this many without a wait (PIPE_BUF)
MAX_WAITING_BYTES = 2**20  # of lines that stderr does not take; the next ones are dropped
BATCH_SECONDS = 0.02  # for which a line waits for the next ones
RETRY_SECONDS = 0.1

log = logging.getLogger(__name__)


class LineHandler(logging.StreamHandler[Any]):
    """Writes lines to stderr: each at once or, in an event loop, as many together as a pipe takes.

    The loop never waits for whoever reads stderr: lines wait instead, and those beyond a limit are
    dropped and counted. The line of a record is written as soon as stderr takes it, with those
    before it; only those of requests wait for each other.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.loop: Any = None
        self.waiting: list[bytes] = []
        self.n_waiting_bytes = 0
        self.n_dropped = 0
        self.is_scheduled = False

    def attach(self, loop: Any) -> None:
        """Write in this event loop, which runs in the current thread, from now on."""
        self.loop = loop
        self.loop_thread = threading.get_ident()
        self.poll = select.poll()
        self.poll.register(self.stream.fileno(), select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record, or let it wait for the loop."""
        try:
            line = self.format(record).encode(errors="backslashreplace")
        except Exception:  # as in every handler of logging
            self.handleError(record)
            return
        with self.lock:  # type: ignore[union-attr]  # a handler always has one
            self.write_line(line)
            self.write_ready_lines()

    def write_line(self, line: bytes) -> None:
        """Write a line, or let it wait for the loop."""
        line += b"\n"
        with self.lock:  # type: ignore[union-attr]
            if self.loop is None or not self.loop.is_running():
                self.flush()
                self.write(line)
                return

            if self.n_waiting_bytes + len(line) > PIPE_BYTES:
                self.write_ready_lines()
            if self.n_waiting_bytes > MAX_WAITING_BYTES:
                self.n_dropped += 1
                return
            self.waiting.append(line)
            self.n_waiting_bytes += len(line)
            if not self.is_scheduled:
                self.schedule()

    def schedule(self) -> None:
        """Let the loop write the lines that have come until then."""
        self.is_scheduled = True
        if threading.get_ident() == self.loop_thread:
            self.loop.call_later(BATCH_SECONDS, self.write_waiting)
            return
        try:
            self.loop.call_soon_threadsafe(self.write_waiting)
        except RuntimeError:  # the loop has ended
            self.flush()

    def write_waiting(self) -> None:
        """Write the lines that wait, and later those that stderr does not take now."""
        with self.lock:  # type: ignore[union-attr]
            self.is_scheduled = False
            self.write_ready_lines()
            if self.waiting:
                self.is_scheduled = True
                self.loop.call_later(RETRY_SECONDS, self.write_waiting)
                return

            if self.n_dropped:
                n_dropped = self.n_dropped
                self.n_dropped = 0
                log.warning("%d lines of this log were dropped: stderr was full", n_dropped)

    def write_ready_lines(self) -> None:
        """Write the lines that wait, as far as stderr takes them without a wait."""
        while self.waiting and self.poll.poll(0):
            self.write(self.take_lines())

    def take_lines(self) -> bytes:
        """Remove lines from those that wait, as many as a pipe takes but at least one."""
        lines = self.waiting
        if self.n_waiting_bytes <= PIPE_BYTES:
            self.waiting = []
            self.n_waiting_bytes = 0
            return b"".join(lines)

        n_lines = 0
        n_bytes = 0
        while n_lines < len(lines) and (n_bytes + len(lines[n_lines]) <= PIPE_BYTES or not n_bytes):
            n_bytes += len(lines[n_lines])
            n_lines += 1
        self.waiting = lines[n_lines:]
        self.n_waiting_bytes -= n_bytes
        return b"".join(lines[:n_lines])

    def write(self, data: bytes) -> None:
        """Write all of the data, unless nobody reads it any more."""
        with contextlib.suppress(OSError):
            while data:
                n_bytes = os.write(self.stream.fileno(), data)
                data = data[n_bytes:]

    def flush(self) -> None:
        """Write all lines that wait, however long that takes; logging calls this at the end."""
        with self.lock:  # type: ignore[union-attr]
            while self.waiting:
                self.write(self.take_lines())
