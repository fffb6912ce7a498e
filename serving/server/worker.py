"""The gunicorn worker: an event loop that answers quick requests, and threads for the others."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from itertools import chain
from typing import Any

from gunicorn.workers import base
from werkzeug.wsgi import ClosingIterator

from serving.server.body_buffer import BufferBudget
from serving.server.environ import Environ
from serving.server.http11 import Connection

# A thread handles a request with a larger body, and one whose path was slow the last time.
MAX_INLINE_BODY_BYTES = 16384
SLOW_REQUEST_SECONDS = 0.01
MAX_SLOW_PATHS = 100

ERROR_BODY = b'{"error":"Internal Server Error"}\n'
ERROR_HEAD = (
    "HTTP/1.1 500 Internal Server Error\r\n"
    "Content-Type: application/json\r\n"
    f"Content-Length: {len(ERROR_BODY)}\r\n"
)


def response_head(status: str, headers: list[tuple[str, str]]) -> str:
    """Return the status line and the headers. Raises ValueError if one contains a line break."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    head = f"HTTP/1.1 {status}\r\n" + "".join(lines)
    if head.count("\n") != len(headers) + 1:
        raise ValueError("the response has a line break in its status or a header")
    return head


def read_and_close(body: ClosingIterator) -> bytes:
    """Return the whole body, and let the application release what it holds."""
    content = b"".join(body)
    body.close()
    return content


class Worker(base.Worker):  # type: ignore[misc]  # gunicorn is untyped
    """Serve any WSGI application until it is stopped; then finish the requests that have begun."""

    def init_process(self) -> None:
        """Create the event loop; gunicorn's own part ends in run()."""
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.stop_event = asyncio.Event()
        self.pool = ThreadPoolExecutor(self.cfg.threads)
        self.connections: set[Connection] = set()
        self.slow_paths: set[str] = set()
        self.buffer_budget = BufferBudget()
        self.environ: Environ = {
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        self.update_clock()
        super().init_process()

    def init_signals(self) -> None:
        """Handle the signals that end the worker in the loop.

        SIGABRT, with which gunicorn ends a worker whose loop hangs, stays gunicorn's.
        """
        super().init_signals()
        self.loop.add_signal_handler(signal.SIGTERM, self.stop)
        for number in (signal.SIGINT, signal.SIGQUIT):
            self.loop.add_signal_handler(number, self.handle_quit, number, None)

    def stop(self) -> None:
        """Ask the loop to end."""
        self.alive = False
        self.stop_event.set()

    def run(self) -> None:
        """Serve until the worker is stopped."""
        # The connection need not read a body that Flask would reject.
        self.max_body_bytes = getattr(self.wsgi, "config", {}).get("MAX_CONTENT_LENGTH") or 2**20
        self.loop.run_until_complete(self.serve())
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def serve(self) -> None:
        """Listen until the worker is stopped, then let the connections finish."""
        servers = []
        for listener in self.sockets:
            server = await self.loop.create_server(
                lambda: Connection(self), sock=listener.sock, backlog=self.cfg.backlog
            )
            servers.append(server)

        while self.alive and self.ppid == os.getppid():
            self.heartbeat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop_event.wait(), 1)

        self.alive = False
        await self.stop_listening(servers)
        await self.finish_connections()

    async def stop_listening(self, servers: list[asyncio.Server]) -> None:
        """Close the listeners.

        Stop accepting first: asyncio drops a connection accepted while closing.
        """
        for listener in self.sockets:
            self.loop.remove_reader(listener.sock)
        await asyncio.sleep(0.1)
        for server in servers:
            server.close()

    async def finish_connections(self) -> None:
        """Wait until the connections have ended, at most gunicorn's graceful timeout."""
        self.update_clock()
        for connection in self.connections:
            connection.last_activity = self.now  # time for a request in transit

        deadline = self.now + self.cfg.graceful_timeout
        while self.connections and self.now < deadline:
            self.heartbeat()
            await asyncio.sleep(0.1)

    def heartbeat(self) -> None:
        """Tell the master that the loop runs, and check the time limits of every connection."""
        self.notify()
        self.update_clock()
        for connection in tuple(self.connections):
            connection.check_timeouts()

    def update_clock(self) -> None:
        """Set the time for the Date header and the time limits; once a second is enough."""
        self.now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n"

    def count_response(self) -> None:
        """Count a response; the worker stops after max_requests, and gunicorn replaces it."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self.stop()

    def dispatch(self, connection: Connection, environ: Environ, body_bytes: int) -> None:
        """Answer a request, in a thread if that may take long."""
        if body_bytes > MAX_INLINE_BODY_BYTES or environ["PATH_INFO"] in self.slow_paths:
            connection.responses.in_progress = True
            self.pool.submit(self.handle_in_thread, connection, environ, body_bytes)
        else:
            head, body = self.call_application(environ, time.perf_counter)
            connection.send_result(environ, body_bytes, head, body)

    def handle_in_thread(self, connection: Connection, environ: Environ, body_bytes: int) -> None:
        """Answer a request; called in a thread."""
        # The time of the thread, without the time for which it waits for the other threads.
        head, body = self.call_application(environ, time.thread_time)
        self.loop.call_soon_threadsafe(connection.send_result, environ, body_bytes, head, body)
        self.loop.call_soon_threadsafe(connection.process_next)

    def call_application(self, environ: Environ, clock: Callable[[], float]) -> tuple[str, Any]:
        """Return the head of the response, without its last lines, and its body.

        The body is bytes, or an iterator of bytes if its length is not known. `clock` returns
        seconds, to measure what the call costs.
        """
        started_at = clock()
        try:
            head, body = self.run_application(environ)
        except Exception:
            self.log.exception("unhandled exception in the WSGI application")
            head = ERROR_HEAD
            body = ERROR_BODY

        self.record_duration(environ["PATH_INFO"], clock() - started_at)
        return head, body

    def run_application(self, environ: Environ) -> tuple[str, Any]:
        """Call the application and return the head and the body of its response."""
        started: list[Any] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            started[:] = status, headers
            return written.append

        result = self.wsgi(environ, start_response)
        chunks = iter(result)
        first_chunk = next(chunks, b"")  # a generator calls start_response no earlier
        status, headers = started
        head = response_head(status, headers)
        body = ClosingIterator(
            chain(written, (first_chunk,), chunks), getattr(result, "close", None)
        )

        if environ["REQUEST_METHOD"] == "HEAD" or status.startswith(("204", "304")):
            body.close()
            return head, b""

        if "\r\ncontent-length:" in head.lower():
            return head, read_and_close(body)

        if hasattr(result, "__len__") and len(result) <= 1:
            content = read_and_close(body)
            return f"{head}Content-Length: {len(content)}\r\n", content

        return head, body

    def record_duration(self, path: str, seconds: float) -> None:
        """Note a slow path, whose next request a thread handles, until it is quick again."""
        if seconds > SLOW_REQUEST_SECONDS and len(self.slow_paths) < MAX_SLOW_PATHS:
            self.slow_paths.add(path)
        else:
            self.slow_paths.discard(path)

    def stream_body(
        self, connection: Connection, body: Iterator[bytes], is_chunked: bool, keep_alive: bool
    ) -> None:
        """Write a body as fast as the client reads it; called in a thread."""
        last_bytes = b""
        if is_chunked:
            last_bytes = b"0\r\n\r\n"

        try:
            for chunk in filter(None, body):
                data = chunk
                if is_chunked:
                    data = b"%x\r\n%b\r\n" % (len(chunk), chunk)
                asyncio.run_coroutine_threadsafe(connection.write(data), self.loop).result()
            self.loop.call_soon_threadsafe(connection.finish_stream, last_bytes, keep_alive)
        except Exception as error:
            if not isinstance(error, ConnectionError):
                self.log.exception("unhandled exception in the response body")
            self.loop.call_soon_threadsafe(connection.transport.abort)
        finally:
            if hasattr(body, "close"):
                body.close()
