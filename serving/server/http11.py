"""HTTP/1.1 with one client: from bytes to WSGI environs, and from responses to bytes.

llhttp, the parser of Node.js, reads the requests (package httptools). This module decides what a
parser leaves open: the order of responses, the memory for requests, the time a client may take,
and when a connection ends. It imports nothing of the service.
"""

import asyncio
import io
import json
from enum import Enum, auto
from functools import partial
from typing import Any

import httptools

from serving.server.body_buffer import BodyBuffer
from serving.server.environ import (
    Environ,
    add_request_line,
    cgi_variable_name,
    connection_variables,
)
from serving.server.response_queue import ResponseQueue

MAX_HEADER_BYTES = 65536  # of the request line and all headers
MAX_HEADER_FIELDS = 100
# How long a connection stays open for data in transit: after its last response, and, while the
# worker stops, for a client that is idle.
LINGER_SECONDS = 5.0


class ConnectionRejected(Exception):
    """Stop the parser: nothing more of this connection is read."""


class RequestState(Enum):
    """What the connection reads at the moment."""

    READY = auto()  # between two requests
    READING_HEAD = auto()
    READING_BODY = auto()
    FINISHED = auto()  # no further request is read


class Connection(asyncio.Protocol):
    """One client, whose requests are answered one after the other."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.parser = httptools.HttpRequestParser(self)
        self.state = RequestState.READY
        self.head_bytes = 0  # received of the head so far
        self.unparsed_body_bytes = 0  # of a body that the parser does not read
        self.body_buffer = BodyBuffer(worker.buffer_budget)
        self.responses = ResponseQueue()
        self.writable = asyncio.Event()
        self.writable.set()
        self.last_activity: float = worker.now  # seconds of the monotonic clock

    # Connection: called by the event loop.

    def connection_made(self, transport: Any) -> None:
        """Register the connection, or reject it if the worker has too many."""
        self.transport: Any = transport
        self.base_environ = self.worker.environ | connection_variables(transport)
        self.max_environ_size = len(self.base_environ) + MAX_HEADER_FIELDS

        self.worker.connections.add(self)
        if len(self.worker.connections) > self.worker.cfg.worker_connections:
            self.reject("503 Service Unavailable", "Too many connections")
            self.process_next()

    def connection_lost(self, _: Exception | None) -> None:
        """Drop the requests of the client."""
        self.worker.connections.discard(self)
        self.state = RequestState.FINISHED
        self.responses.clear()
        self.body_buffer.release_all()
        self.writable.set()  # a thread that waits to write finds the connection closing

    def data_received(self, data: bytes) -> None:
        """Parse the data, and answer the requests that are complete."""
        if self.state is RequestState.FINISHED:
            return

        try:
            self.feed_parser(data)
        except (httptools.HttpParserError, ConnectionRejected) as error:
            if self.state is not RequestState.FINISHED:
                self.reject("400 Bad Request", f"Malformed HTTP request: {error}")

        if self.state is RequestState.READING_HEAD:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEADER_BYTES:
                self.reject_headers()
        self.process_next()

    def pause_writing(self) -> None:
        """Write no more until the client reads."""
        self.last_activity = self.worker.now
        self.writable.clear()

    def resume_writing(self) -> None:
        """Continue with the next response."""
        self.writable.set()
        self.process_next()

    # Parsing.

    def feed_parser(self, data: bytes) -> None:
        """Parse the data; the body of a request for an upgrade is read without the parser."""
        if not self.unparsed_body_bytes:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                self.begin_upgrade_body()
                data = data[upgrade.args[0] :]
        self.read_upgrade_body(data)

    def begin_upgrade_body(self) -> None:
        """Expect the body of a request for an upgrade, at whose head the parser stops.

        The request is answered as if it did not ask for the upgrade, as HTTP allows: Java's HTTP
        client asks for HTTP/2 with its first POST.
        """
        if "HTTP_TRANSFER_ENCODING" in self.environ:
            raise self.reject("501 Not Implemented", "Expected Content-Length beside Upgrade")
        self.unparsed_body_bytes = int(self.environ.get("CONTENT_LENGTH", 0))

    def read_upgrade_body(self, data: bytes) -> None:
        """Read a part of the body of a request for an upgrade, the last of its connection."""
        part = data[: self.unparsed_body_bytes]
        self.unparsed_body_bytes -= len(part)
        if part:
            self.on_body(part)

        if not self.unparsed_body_bytes:
            self.enqueue_request()
            self.state = RequestState.FINISHED

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.environ: Environ = self.base_environ.copy()
        self.target = b""
        self.state = RequestState.READING_HEAD
        self.head_bytes = 0
        self.last_activity = self.worker.now

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the environ; values of a repeated header are joined."""
        variable = cgi_variable_name(name)
        if not variable:
            return

        text = value.decode("latin-1")
        if variable in self.environ:
            separator = ","
            if variable == "HTTP_COOKIE":
                separator = ";"
            self.environ[variable] += f"{separator}{text}"
            return

        self.environ[variable] = text
        if len(self.environ) > self.max_environ_size:
            raise self.reject_headers()

    def on_headers_complete(self) -> None:
        """Complete the environ and check the head of the request."""
        self.state = RequestState.READING_BODY
        environ = self.environ
        version = self.parser.get_http_version()
        add_request_line(environ, self.parser.get_method(), self.target, version)

        if version != "1.0" and ("HTTP_HOST" not in environ or "," in environ["HTTP_HOST"]):
            raise self.reject("400 Bad Request", "Expected one Host header")
        if int(environ.get("CONTENT_LENGTH", 0)) > self.worker.max_body_bytes:
            self.stop_reading()
        if "HTTP_EXPECT" in environ and version != "1.0" and not self.responses.is_busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Add a part of the body, if the worker has memory for it."""
        self.body_buffer.append(data)
        if self.worker.buffer_budget.is_exceeded:
            raise self.reject("503 Service Unavailable", "Request body buffer is full")
        if len(self.body_buffer.body) > self.worker.max_body_bytes:
            self.stop_reading()

    def on_message_complete(self) -> None:
        """Queue the request, unless its body is read without the parser."""
        if not self.parser.should_upgrade():
            self.enqueue_request()
        if not self.parser.should_keep_alive():
            self.state = RequestState.FINISHED

    def enqueue_request(self) -> None:
        """Queue the request for the application."""
        body = self.body_buffer.take_body()
        self.environ["wsgi.input"] = io.BytesIO(body)
        self.state = RequestState.READY
        self.responses.append(partial(self.worker.dispatch, self, self.environ, len(body)))

    def stop_reading(self) -> None:
        """Queue the request without the rest of its body, which the application would reject.

        Raises ConnectionRejected, to end the parser.
        """
        self.enqueue_request()
        self.state = RequestState.FINISHED
        raise ConnectionRejected

    def reject(self, status: str, message: str) -> ConnectionRejected:
        """Queue an error response, the last one of this connection.

        Returns the exception with which a callback of the parser ends the parser.
        """
        self.worker.log.info("request rejected: %s: %s", status, message)
        self.body_buffer.discard_body()
        self.state = RequestState.FINISHED

        body = json.dumps({"error": message}).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
        )
        self.responses.append(partial(self.write_response, head, body, "HTTP/1.1"))
        return ConnectionRejected()

    def reject_headers(self) -> ConnectionRejected:
        """Reject a request whose head is too large."""
        return self.reject(
            "431 Request Header Fields Too Large",
            f"Expected at most {MAX_HEADER_BYTES} bytes and {MAX_HEADER_FIELDS} fields of headers",
        )

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
        self.body_buffer.release(body_bytes)

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
        head_bytes = f"{head}\r\n".encode("latin-1")

        if is_complete:
            self.transport.write(head_bytes + body)
            self.finish_response(keep_alive)
        else:
            self.transport.write(head_bytes)
            self.responses.in_progress = True
            self.worker.pool.submit(self.worker.stream_body, self, body, is_chunked, keep_alive)

    def expects_more(self) -> bool:
        """Return whether another request is, or may be, answered on this connection."""
        if not self.worker.alive:
            return False
        return bool(self.responses.pending) or self.state is not RequestState.FINISHED

    def finish_response(self, keep_alive: bool) -> None:
        """Wait for the next request, or end this side of the connection."""
        self.last_activity = self.worker.now
        if keep_alive:
            return

        self.state = RequestState.FINISHED
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
        elif self.state is RequestState.FINISHED:
            if idle_seconds > LINGER_SECONDS:
                self.transport.abort()
        elif self.state is RequestState.READY:
            if idle_seconds > self.keep_alive_seconds():
                self.transport.close()
        elif idle_seconds > config.timeout:
            message = f"Expected the whole request within {config.timeout} s"
            self.reject("408 Request Timeout", message)
            self.process_next()

    def keep_alive_seconds(self) -> float:
        """Return how long the connection may wait for a request."""
        if not self.worker.alive:
            return LINGER_SECONDS
        return float(self.worker.cfg.keepalive)
