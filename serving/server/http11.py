"""HTTP/1.1 with one client: the order of its responses, their framing, and its time limits.

The package imports nothing of the service.
"""

import asyncio
import json
from functools import partial
from typing import Any

from serving.server.environ import Environ
from serving.server.request_reader import RequestReader, RequestState
from serving.server.response_queue import ResponseQueue

# How long a connection stays open for data in transit: after its last response, and, while the
# worker stops, for a client that is idle.
LINGER_SECONDS = 5.0


class Connection(asyncio.Protocol):
    """One client, whose requests are answered one after the other."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.responses = ResponseQueue()
        self.writable = asyncio.Event()
        self.writable.set()
        self.last_activity: float = worker.now  # seconds of the monotonic clock

    # Connection: called by the event loop.

    def connection_made(self, transport: Any) -> None:
        """Register the connection, or reject it if the worker has too many."""
        self.transport: Any = transport
        self.reader = RequestReader(self)

        self.worker.connections.add(self)
        if len(self.worker.connections) > self.worker.cfg.worker_connections:
            self.reader.reject("503 Service Unavailable", "Too many connections")
            self.process_next()

    def connection_lost(self, _: Exception | None) -> None:
        """Drop the requests of the client."""
        self.worker.connections.discard(self)
        self.reader.finish()
        self.responses.clear()
        self.reader.body_buffer.release_all()
        self.writable.set()  # a thread that waits to write finds the connection closing

    def data_received(self, data: bytes) -> None:
        """Read requests, and answer those that are complete."""
        if not self.reader.is_finished:
            self.reader.read(data)
            self.process_next()

    def pause_writing(self) -> None:
        """Write no more until the client reads."""
        self.last_activity = self.worker.now
        self.writable.clear()

    def resume_writing(self) -> None:
        """Continue with the next response."""
        self.writable.set()
        self.process_next()

    # Called by the reader.

    def request_body(self) -> None:
        """Tell a client that waits before it sends a body to send it, unless it must wait."""
        if not self.responses.is_busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def queue_request(self, environ: Environ, body_bytes: int) -> None:
        """Queue a request for the application."""
        self.responses.append(partial(self.worker.dispatch, self, environ, body_bytes))

    def queue_error(self, status: str, message: str) -> None:
        """Queue an error response to a request that does not reach the application."""
        body = json.dumps({"error": message}).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
        )
        self.responses.append(partial(self.write_response, head, body, "HTTP/1.1"))

    # Responses.

    def process_next(self) -> None:
        """Start the next response if none is in progress; read on once all are written."""
        responses = self.responses
        if responses.pending and not responses.in_progress and self.writable.is_set():
            responses.start_next()
            if responses.pending:
                # Through the loop, so that the other clients have their turn.
                self.worker.loop.call_soon(self.process_next)

        # The transport ignores these calls where they change nothing, or where it is closing.
        if responses.is_busy:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def send_result(self, environ: Environ, body_bytes: int, head: str, body: Any) -> None:
        """Write the response of the application, unless the client has left."""
        self.responses.in_progress = False
        self.reader.body_buffer.release(body_bytes)

        if not self.transport.is_closing():
            self.write_response(head, body, environ["SERVER_PROTOCOL"])
        elif hasattr(body, "close"):
            body.close()

    def write_response(self, head: str, body: Any, protocol: str) -> None:
        """Write a response; a body that is not bytes is streamed by a thread."""
        self.worker.count_response()
        is_http10 = protocol == "HTTP/1.0"
        is_complete = isinstance(body, bytes)

        # To an HTTP/1.0 client the end of the connection is the end of a body of unknown length.
        keep_alive = self.expects_more() and (is_complete or not is_http10)
        is_chunked = not is_complete and not is_http10

        head += self.worker.date
        if is_chunked:
            head += "Transfer-Encoding: chunked\r\n"
        if not keep_alive:
            head += "Connection: close\r\n"
        elif is_http10:
            head += "Connection: keep-alive\r\n"
        head_data = f"{head}\r\n".encode("latin-1")

        if is_complete:
            self.transport.write(head_data + body)
            self.finish_response(keep_alive)
        else:
            self.transport.write(head_data)
            self.responses.in_progress = True
            self.worker.pool.submit(self.worker.stream_body, self, body, is_chunked, keep_alive)

    def expects_more(self) -> bool:
        """Return whether another request is, or may be, answered on this connection."""
        if not self.worker.alive:
            return False
        return bool(self.responses.pending) or not self.reader.is_finished

    def finish_response(self, keep_alive: bool) -> None:
        """Wait for the next request, or end this side of the connection."""
        self.last_activity = self.worker.now
        if keep_alive:
            return

        self.reader.finish()
        self.responses.clear()
        if not self.transport.is_closing():
            # Closing it at once would reset the connection if the client still sends, and the
            # client could lose the response.
            self.transport.write_eof()

    async def write(self, data: bytes) -> None:
        """Write data once the client reads. Raises ConnectionError if the client has left."""
        await self.writable.wait()
        if self.transport.is_closing():
            raise ConnectionError
        self.transport.write(data)

    def finish_stream(self, last_bytes: bytes, keep_alive: bool) -> None:
        """End a body that a thread has streamed."""
        self.responses.in_progress = False
        if not self.transport.is_closing():
            self.transport.write(last_bytes)
            self.finish_response(keep_alive)
        self.process_next()

    # Time limits.

    def check_timeouts(self) -> None:
        """End the connection, or its request, if the client takes too long."""
        idle_seconds = self.worker.now - self.last_activity
        config = self.worker.cfg

        if not self.writable.is_set():
            if idle_seconds > config.timeout:
                self.transport.abort()
        elif self.responses.is_busy:
            return
        elif self.reader.is_finished:
            if idle_seconds > LINGER_SECONDS:
                self.transport.abort()
        elif self.reader.state is RequestState.READY:
            if idle_seconds > self.keep_alive_seconds():
                self.transport.close()
        elif idle_seconds > config.timeout:
            message = f"Expected the whole request within {config.timeout} s"
            self.reader.reject("408 Request Timeout", message)
            self.process_next()

    def keep_alive_seconds(self) -> float:
        """Return how long the connection may wait for a request."""
        if not self.worker.alive:
            return LINGER_SECONDS
        return float(self.worker.cfg.keepalive)
