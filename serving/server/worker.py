"""The gunicorn worker: one event loop, in which quick requests are answered, and threads for the others."""

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

from serving.server.http11 import Connection, Environ

# What goes to a thread: a body of more bytes, and a path that took more seconds, until it no longer does.
MAX_INLINE_BODY_BYTES, SLOW_REQUEST_SECONDS = 16384, 0.01
INTERNAL_SERVER_ERROR = (
    "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 34\r\n",
    b'{"error":"Internal Server Error"}\n',
)


class Worker(base.Worker):  # type: ignore[misc]  # gunicorn is untyped
    """Serve any WSGI application until told to stop; then finish what was begun."""

    def init_process(self) -> None:
        """Make the loop, before gunicorn's own part of the start ends in run()."""
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.stop_event = asyncio.Event()
        self.pool = ThreadPoolExecutor(self.cfg.threads)
        self.connections: set[Connection] = set()
        self.slow_paths: set[str] = set()
        self.buffered_bytes = 0
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
        """Take what ends the worker through the loop; SIGABRT comes when that hangs, and stays gunicorn's."""
        super().init_signals()
        self.loop.add_signal_handler(signal.SIGTERM, self.stop)
        for number in (signal.SIGINT, signal.SIGQUIT):
            self.loop.add_signal_handler(number, self.handle_quit, number, None)

    def stop(self) -> None:
        """Have the loop end in its own time."""
        self.alive = False
        self.stop_event.set()

    def run(self) -> None:
        """Serve, and return when all is done."""
        # What Flask would refuse need not be read.
        self.max_body_bytes = getattr(self.wsgi, "config", {}).get("MAX_CONTENT_LENGTH") or 2**20
        self.loop.run_until_complete(self.serve())
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def serve(self) -> None:
        """Listen; once told to stop, wait for what was begun, no longer than gunicorn does."""
        servers = [
            await self.loop.create_server(
                lambda: Connection(self), sock=listener.sock, backlog=self.cfg.backlog
            )
            for listener in self.sockets
        ]
        while self.alive and self.ppid == os.getppid():
            self.heartbeat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop_event.wait(), 1)
        self.alive = False
        # First accept no more, then close: asyncio drops a connection whose listener is closed while it is being made.
        for listener in self.sockets:
            self.loop.remove_reader(listener.sock)
        await asyncio.sleep(0.1)
        for server in servers:
            server.close()
        self.update_clock()
        for connection in self.connections:
            connection.last_activity = self.now  # time for what a client has just sent
        end = self.now + self.cfg.graceful_timeout
        while self.connections and self.now < end:
            self.heartbeat()
            await asyncio.sleep(0.1)

    def heartbeat(self) -> None:
        """Show the master that the loop turns, and look after every connection."""
        self.notify()
        self.update_clock()
        for connection in tuple(self.connections):
            connection.check_timeouts()

    def update_clock(self) -> None:
        """Tell the time, for headers and for silences: once a second is enough."""
        self.now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n"

    def count_response(self) -> None:
        """Count an answer; after max_requests of them this worker is replaced."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self.stop()

    def dispatch(self, client: Connection, environ: Environ, size: int) -> None:
        """Have a request answered: here, or in a thread if that may take long."""
        if size > MAX_INLINE_BODY_BYTES or environ["PATH_INFO"] in self.slow_paths:
            client.response_in_progress = True
            self.pool.submit(self.handle_in_thread, client, environ, size)
        else:
            client.send_result(environ, size, *self.call_application(environ, time.perf_counter))

    def handle_in_thread(self, client: Connection, environ: Environ, size: int) -> None:
        """Have a request answered, in a thread."""
        answer = self.call_application(
            environ, time.thread_time
        )  # what it costs, not how long it waits for its turn
        self.loop.call_soon_threadsafe(client.send_result, environ, size, *answer)
        self.loop.call_soon_threadsafe(client.process_next)

    def call_application(self, environ: Environ, clock: Callable[[], float]) -> tuple[str, Any]:
        """Return the head of the application's answer, to be completed, and its body: bytes, or what yields them.

        `clock` tells what the call costs, in seconds; a path that was slow goes to a thread until it is quick again.
        """
        started_at = clock()
        started: list[Any] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            started[:] = status, headers
            return written.append

        try:
            result = self.wsgi(environ, start_response)
            chunks = iter(result)
            first = next(chunks, b"")  # a generator calls start_response no sooner
            status, headers = started
            head = "".join(
                [f"HTTP/1.1 {status}\r\n", *[f"{name}: {value}\r\n" for name, value in headers]]
            )
            if head.count("\n") != len(headers) + 1:
                raise ValueError("a header has a line break in it")
            body: Any = ClosingIterator(
                chain(written, (first,), chunks), getattr(result, "close", None)
            )
            has_content_length = "\r\ncontent-length:" in head.lower()
            empty = environ["REQUEST_METHOD"] == "HEAD" or status.startswith(("204", "304"))
            if has_content_length or empty or (hasattr(result, "__len__") and len(result) <= 1):
                whole = b"" if empty else b"".join(body)
                body.close()
                body = whole
                if not has_content_length and not empty:
                    head += f"Content-Length: {len(body)}\r\n"
        except Exception:
            self.log.exception("the application failed")
            head, body = INTERNAL_SERVER_ERROR
        if clock() - started_at > SLOW_REQUEST_SECONDS and len(self.slow_paths) < 100:
            self.slow_paths.add(environ["PATH_INFO"])
        else:
            self.slow_paths.discard(environ["PATH_INFO"])
        return head, body

    def stream_body(
        self, client: Connection, body: Iterator[bytes], chunked: bool, keep: bool
    ) -> None:
        """Write the pieces of a body, in a thread, as fast as the client takes them."""
        try:
            for piece in filter(None, body):
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                asyncio.run_coroutine_threadsafe(client.write(framed), self.loop).result()
            self.loop.call_soon_threadsafe(
                client.stream_finished, b"0\r\n\r\n" if chunked else b"", keep
            )
        except Exception as error:
            if not isinstance(error, ConnectionError):
                self.log.exception("an answer broke off")
            self.loop.call_soon_threadsafe(client.transport.abort)
        finally:
            if hasattr(body, "close"):
                body.close()
