"""The gunicorn worker: an event loop that answers quick requests, and threads for the others.

Not for websockets or TLS; `worker_class = "gthread"` serves the latter.
"""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from email.utils import formatdate
from typing import Any

from gunicorn.workers import base

from serving.server.acceptor import Acceptor
from serving.server.application import Response, call_application, error_response
from serving.server.body_buffer import BufferBudget
from serving.server.environ import Environ
from serving.server.http11 import Connection
from serving.server.path_costs import SLOW_REQUEST_SECONDS, PathCosts, is_quick_since, measure_usage
from serving.server.request_reader import MAX_HEADER_BYTES
from serving.server.response_limit import ResponseLimit
from serving.server.settings import check_settings
from serving.server.sockets import raise_descriptor_limit
from serving.server.streaming import read_first_chunk, stream_rest

__all__ = ["MAX_INLINE_BODY_BYTES", "SLOW_REQUEST_SECONDS", "Worker"]

# A thread handles a request with a larger body.
MAX_INLINE_BODY_BYTES = 16384
MAX_STREAMS = 100  # that are computed at the same time; the next ones wait

DEFAULT_MAX_BODY_BYTES = 2**20  # of an application without MAX_CONTENT_LENGTH
# Of the graceful timeout, after which gunicorn kills the worker: to end what has not ended by then.
ABORT_SECONDS = 0.4
RECEIVE_BYTES = 65536  # at once from one connection


class Worker(base.Worker):  # type: ignore[misc]  # gunicorn is untyped
    """Serve any WSGI application until it is stopped; then finish the requests that have begun."""

    probe_paths: frozenset[str] = frozenset()  # that never wait; post_fork sets them

    @classmethod
    def check_config(cls, config: Any, _: Any) -> None:
        """Refuse settings that this worker would ignore; gunicorn calls this before the fork."""
        check_settings(config)

    def init_process(self) -> None:
        """Create the event loop; gunicorn's own part ends in run()."""
        self.loop = asyncio.new_event_loop()
        self.stop_event = asyncio.Event()
        self.pool = ThreadPoolExecutor(self.cfg.threads)
        # Neither slow requests nor streams occupy the thread of the probes, nor each other's.
        self.stream_pool = ThreadPoolExecutor(MAX_STREAMS)
        self.probe_pool = ThreadPoolExecutor(1)
        self.connections: set[Connection] = set()
        self.path_costs = PathCosts()
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
        for pool in (self.pool, self.stream_pool, self.probe_pool):
            pool.shutdown(wait=False, cancel_futures=True)
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

        deadline = self.now + self.cfg.graceful_timeout - ABORT_SECONDS
        while self.connections and self.now < deadline:
            self.heartbeat()
            await asyncio.sleep(0.1)

        if self.connections:
            for connection in tuple(self.connections):
                connection.transport.abort()
            await asyncio.sleep(ABORT_SECONDS / 2)  # for threads that wait for a client to read

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
        """Answer a request, in a thread unless that is known to be quick."""
        path = environ["PATH_INFO"]
        body_bytes = connection.reader.body_buffer.held_bytes
        if body_bytes <= MAX_INLINE_BODY_BYTES and path in self.path_costs.quick_paths:
            usage = measure_usage()
            started_at = time.perf_counter()
            response = self.call_in_loop(environ)
            seconds = time.perf_counter() - started_at
            if seconds > SLOW_REQUEST_SECONDS and not is_quick_since(usage):
                self.path_costs.record_slow_run(path)
            self.respond(connection, response)
            return

        connection.is_busy = True
        pool = self.pool
        if path in self.probe_paths:
            pool = self.probe_pool
        pool.submit(self.handle_in_thread, connection, environ, body_bytes)

    def call_in_loop(self, environ: Environ) -> Response:
        """Return the response of the application, to which this thread looks like any other.

        A view may call asyncio.run, which refuses a thread with a running loop.
        """
        asyncio._set_running_loop(None)
        try:
            return self.call_application(environ)
        finally:
            asyncio._set_running_loop(self.loop)

    def handle_in_thread(self, connection: Connection, environ: Environ, body_bytes: int) -> None:
        """Answer a request; called in a thread."""
        usage = measure_usage()
        response = self.call_application(environ)
        if body_bytes <= MAX_INLINE_BODY_BYTES and is_quick_since(usage):
            self.path_costs.record_quick_run(environ["PATH_INFO"])

        if response.has_begun:
            self.send_from_thread(connection, response)
        else:
            self.begin_stream(connection, response)

    def call_application(self, environ: Environ) -> Response:
        """Return the response of the application, or an error if it fails."""
        context = copy_context()
        try:
            response = context.run(call_application, self.wsgi, environ)
        except BaseException:  # SystemExit as well: it would end the worker, or only the thread
            self.log.exception("unhandled exception in the WSGI application")
            return error_response()
        response.context = context
        return response

    def respond(self, connection: Connection, response: Response) -> None:
        """Send a response that was computed in the loop."""
        if response.has_begun:
            connection.send_response(response)
        else:
            connection.is_busy = True
            self.begin_stream(connection, response)

    def send_from_thread(self, connection: Connection, response: Response) -> None:
        """Send a response that was computed in this thread."""
        connection.response = response
        # Without arguments, which the loop would log if the call failed.
        self.loop.call_soon_threadsafe(connection.send_thread_response)

    def begin_stream(self, connection: Connection, response: Response) -> None:
        """Compute the first part of a body in a thread, then send the head and that part."""
        self.stream_pool.submit(read_first_chunk, connection, response)

    def stream(self, connection: Connection, response: Response) -> None:
        """Compute the rest of a body in a thread."""
        self.stream_pool.submit(stream_rest, connection, response)
