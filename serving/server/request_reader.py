"""The requests of one client: from bytes to WSGI environs.

llhttp, the parser of Node.js, reads the requests (package httptools). This module decides what a
parser leaves open: how large a request may be, and after which one nothing more is read.
"""

import io
from enum import Enum, auto
from typing import Any

import httptools

from serving.server.body_buffer import BodyBuffer
from serving.server.environ import (
    Environ,
    add_request_line,
    cgi_variable_name,
    connection_variables,
)

MAX_HEADER_BYTES = 65536  # of the request line and all headers
MAX_HEADER_FIELDS = 100


class ConnectionRejected(Exception):
    """Stop the parser: nothing more of this connection is read."""


class RequestState(Enum):
    """What the reader expects next."""

    READY = auto()  # between two requests
    READING_HEAD = auto()
    READING_BODY = auto()
    FINISHED = auto()  # no further request is read


class RequestReader:
    """Reads the requests of one connection, with the callbacks of the parser."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.worker = connection.worker
        self.parser = httptools.HttpRequestParser(self)
        self.state = RequestState.READY
        self.head_bytes = 0  # received of the head so far
        self.unparsed_body_bytes = 0  # of a body that the parser does not read
        self.body_buffer = BodyBuffer(self.worker.buffer_budget)
        self.base_environ = self.worker.environ | connection_variables(connection.transport)
        self.max_environ_size = len(self.base_environ) + MAX_HEADER_FIELDS

    @property
    def is_finished(self) -> bool:
        """Whether no further request is read."""
        return self.state is RequestState.FINISHED

    def finish(self) -> None:
        """Read no further request."""
        self.state = RequestState.FINISHED

    def read(self, data: bytes) -> None:
        """Read data, and queue the requests that are complete."""
        if self.is_finished:
            return

        try:
            self.feed_parser(data)
        except (httptools.HttpParserError, ConnectionRejected) as error:
            if not self.is_finished:
                self.reject("400 Bad Request", f"Malformed HTTP request: {error}")

        if self.state is RequestState.READING_HEAD:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEADER_BYTES:
                self.reject_headers()

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
            self.finish()

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
        if "HTTP_EXPECT" in environ and version != "1.0":
            self.connection.request_body()

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
            self.finish()

    def enqueue_request(self) -> None:
        """Queue the request for the application."""
        body = self.body_buffer.take_body()
        self.environ["wsgi.input"] = io.BytesIO(body)
        self.state = RequestState.READY
        self.connection.queue_request(self.environ, len(body))

    def stop_reading(self) -> None:
        """Queue the request without the rest of its body, which the application would reject.

        Raises ConnectionRejected, to end the parser.
        """
        self.enqueue_request()
        self.finish()
        raise ConnectionRejected

    def reject(self, status: str, message: str) -> ConnectionRejected:
        """Queue an error response, the last one of this connection.

        Returns the exception with which a callback of the parser ends the parser.
        """
        self.worker.log.info("request rejected: %s: %s", status, message)
        self.body_buffer.discard_body()
        self.finish()
        self.connection.queue_error(status, message)
        return ConnectionRejected()

    def reject_headers(self) -> ConnectionRejected:
        """Reject a request whose head is too large."""
        return self.reject(
            "431 Request Header Fields Too Large",
            f"Expected at most {MAX_HEADER_BYTES} bytes and {MAX_HEADER_FIELDS} fields of headers",
        )
