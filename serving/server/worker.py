"""The gunicorn worker: an event loop that answers quick requests, and threads for the others."""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from email.utils import formatdate

from gunicorn.workers import base

from serving.server.acceptor import Acceptor
from serving.server.application import Response, call_application, error_response
from serving.server.body_buffer import BufferBudget
from serving.server.environ import Environ
from serving.server.http11 import Connection
from serving.server.request_reader import MAX_HEADER_BYTES
from serving.server.response_limit import ResponseLimit
from serving.server.sockets import raise_descriptor_limit
from serving.server.streaming import stream_rest

# A thread handles a request with a larger body, and one whose path was slow the last time.
MAX_INLINE_BODY_BYTES = 16384
SLOW_REQUEST_SECONDS = 0.01
MAX_SLOW_PATHS = 100

DEFAULT_MAX_BODY_BYTES = 2**20  # of an application without MAX_CONTENT_LENGTH
RECEIVE_BYTES = 65536  # at once from one connection


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
        self.response_limit = ResponseLimit()
        self.receive_buffer = memoryview(bytearray(RECEIVE_BYTES))
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
        self.set_limits()
        self.update_clock()
        super().init_process()

    def set_limits(self) -> None:
        """Take the limits from gunicorn's settings; 0 is no limit of its own."""
        self.max_line_bytes = self.cfg.limit_request_line or MAX_HEADER_BYTES
        self.max_fields = self.cfg.limit_request_fields
        self.max_field_bytes = self.cfg.limit_request_field_size or MAX_HEADER_BYTES
        self.silence_seconds = self.cfg.timeout or math.inf
        n_descriptors = raise_descriptor_limit()
        listeners = [listener.sock for listener in self.sockets]
        self.acceptor = Acceptor(self, listeners, n_descriptors)
        self.max_clients = self.acceptor.max_clients

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
        # A body that Flask would reject is not read to its end.
        limit = getattr(self.wsgi, "config", {}).get("MAX_CONTENT_LENGTH")
        self.application_limits_body = limit is not None
        self.max_body_bytes = DEFAULT_MAX_BODY_BYTES
        if limit is not None:
            self.max_body_bytes = limit
        self.loop.run_until_complete(self.serve())
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.loop.close()

    async def serve(self) -> None:
        """Listen until the worker is stopped, then let the connections finish."""
        self.acceptor.resume()
        while self.alive and self.ppid == os.getppid():
            self.heartbeat()
            self.acceptor.resume()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop_event.wait(), 1)

        self.alive = False
        await self.acceptor.stop()
        await self.finish_connections()

    async def finish_connections(self) -> None:
        """Wait until the connections have ended, at most gunicorn's graceful timeout."""
        self.update_clock()
        for connection in self.connections:
            connection.last_progress = self.now  # time for a request in transit

        deadline = self.now + self.cfg.graceful_timeout
        while self.connections and self.now < deadline:
            self.heartbeat()
            await asyncio.sleep(0.1)

        for connection in tuple(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # threads that wait to write see that their client has left

    def remove_connection(self, connection: Connection) -> None:
        """Forget a connection, and accept another one instead."""
        self.connections.discard(connection)
        self.response_limit.discard(connection)
        if self.alive and self.acceptor.is_paused:
            self.acceptor.resume()

    def heartbeat(self) -> None:
        """Tell the master that the loop runs, and check the time limits of every connection."""
        self.notify()
        self.update_clock()
        for connection in tuple(self.connections):
            connection.check_timeouts(self.now)

    def update_clock(self) -> None:
        """Set the time for the Date header and the time limits; once a second is enough."""
        self.now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode()

    def count_response(self) -> None:
        """Count a response; the worker stops after max_requests, and gunicorn replaces it."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self.stop()

    def refuse_body(self, newcomer: Connection) -> None:
        """Refuse the client that hoards memory for bodies: the most bytes for the longest time."""
        now = time.monotonic()
        hoarder = newcomer
        most = 0.0
        for connection in self.connections:
            if connection.can_answer():  # its body is being read
                held_bytes = connection.reader.body_buffer.held_bytes
                byte_seconds = held_bytes * (now - connection.last_progress)
                if byte_seconds > most:
                    most = byte_seconds
                    hoarder = connection
        hoarder.reader.reject("503 Service Unavailable", "Request body buffer is full")

    def dispatch(self, connection: Connection, environ: Environ) -> None:
        """Answer a request, in a thread if that may take long."""
        body_bytes = connection.reader.body_buffer.held_bytes
        if body_bytes > MAX_INLINE_BODY_BYTES or environ["PATH_INFO"] in self.slow_paths:
            connection.is_busy = True
            self.pool.submit(self.handle_in_thread, connection, environ)
        else:
            connection.send_response(self.call_application(environ, time.perf_counter))

    def handle_in_thread(self, connection: Connection, environ: Environ) -> None:
        """Answer a request; called in a thread."""
        # The time of the thread, without the time for which it waits for the other threads.
        connection.response = self.call_application(environ, time.thread_time)
        # Without arguments, which the loop would log if the call failed.
        self.loop.call_soon_threadsafe(connection.send_thread_response)

    def call_application(self, environ: Environ, clock: Callable[[], float]) -> Response:
        """Return the response of the application, or of an application that fails.

        `clock` returns seconds, to measure what the call costs.
        """
        context = copy_context()
        started_at = clock()
        try:
            response = context.run(call_application, self.wsgi, environ)
            response.context = context
        except BaseException:  # SystemExit as well: it would end the worker, or only the thread
            self.log.exception("unhandled exception in the WSGI application")
            response = error_response()

        self.record_duration(environ["PATH_INFO"], clock() - started_at)
        return response

    def record_duration(self, path: str, seconds: float) -> None:
        """Note a slow path, whose next request a thread handles, until it is quick again."""
        if seconds > SLOW_REQUEST_SECONDS and len(self.slow_paths) < MAX_SLOW_PATHS:
            self.slow_paths.add(path)
        else:
            self.slow_paths.discard(path)

    def stream(self, connection: Connection, response: Response) -> None:
        """Compute the rest of a body in a thread, where the context of its request continues."""
        context = response.context or copy_context()
        self.pool.submit(context.run, stream_rest, connection, response)
