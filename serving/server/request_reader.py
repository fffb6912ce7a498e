"""The requests of one client: from bytes to WSGI environs.

llhttp, the parser of Node.js, reads the requests (package httptools). This module decides what a
parser leaves open: how large a request may be, and after which one nothing more is read.
"""

import io
from enum import Enum, auto
from typing import Any

import httptools

from serving.server.body_buffer import MAX_BUFFERED_BYTES, BodyBuffer
from serving.server.environ import Environ, cgi_variable_name, connection_variables
from serving.server.parser import head_without_upgrade, new_parser
from serving.server.pieces import (
    LINE_BREAKS,
    MAX_METHOD_BYTES,
    PieceCutter,
    begins_with_method,
    is_method_incomplete,
)
from serving.server.request_head import RequestRejected, check_headers, request_line_variables

MAX_HEADER_BYTES = 65536  # of the request line and all headers; of trailers and chunk extensions
CHUNK_FRAMING_BYTES = 16  # of each chunk do not count: its size and two line breaks
LINE_FRAMING_BYTES = len(b"  HTTP/1.1")  # of a request line, beside its method and target
MAX_PIECE_BYTES = 65536  # of a chunked body that the parser receives at once


class ConnectionRejected(Exception):
    """Stop the parser: nothing more of this connection is read."""


class RequestState(Enum):
    """What the reader expects next."""

    READY = auto()  # between two requests
    READING_HEAD = auto()
    READING_BODY = auto()
    READING_CHUNKS = auto()  # and the trailers after them
    FINISHED = auto()  # no further request is read


# Access to a member of an Enum takes as long as a call.
READY = RequestState.READY
READING_HEAD = RequestState.READING_HEAD
READING_BODY = RequestState.READING_BODY
READING_CHUNKS = RequestState.READING_CHUNKS


class RequestReader:
    """Reads the requests of one connection, with the callbacks of the parser."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.worker = connection.worker
        self.parser = new_parser(self)
        self.state = READY
        self.is_finished = False  # no further request is read
        self.request: Environ | None = None  # that the last piece has completed
        self.head_bytes = 0  # received of the head so far
        self.cutter = PieceCutter()
        self.body_buffer = BodyBuffer(self.worker.buffer_budget)
        self.max_fields = self.worker.max_fields
        self.max_field_bytes = self.worker.max_field_bytes
        self.base_environ = self.worker.environ | connection_variables(connection.transport)

    def finish(self) -> None:
        """Read no further request."""
        self.state = RequestState.FINISHED
        self.is_finished = True

    def read(self, data: bytes, start: int) -> int:
        """Read a piece of `data` from `start` on, and return its end.

        The end is `start` if more data is needed. `request` is set if the piece completes one.
        """
        if self.state is READY:
            if data[start] in LINE_BREAKS and self.head_bytes < MAX_HEADER_BYTES:
                self.head_bytes += 1
                return start + 1
            has_method = data.find(b" ", start, start + MAX_METHOD_BYTES) >= 0
            if not has_method and is_method_incomplete(data, start):
                return start

        if self.state is READING_CHUNKS:
            return self.read_chunks(data, start)

        end = start
        if self.state is not READING_BODY:
            end = self.read_head(data, start)
        if self.state is READING_BODY:
            start = end
            end = min(len(data), start + self.remaining_bytes)
            self.remaining_bytes -= end - start
            self.feed(data, start, end)
        return end

    def read_head(self, data: bytes, start: int) -> int:
        """Read a piece of a head, and return its end."""
        max_bytes = MAX_HEADER_BYTES - self.head_bytes
        if max_bytes <= 0:
            self.reject_headers()
            return len(data)

        end = self.cutter.end_of_piece(data, start, max_bytes)
        self.head_bytes += end - start
        self.feed(data, start, end)
        return end

    def read_chunks(self, data: bytes, start: int) -> int:
        """Read a piece of a chunked body, whose framing and trailers must not be endless."""
        end = self.cutter.end_of_piece(data, start, MAX_PIECE_BYTES)
        body_bytes_before = self.body_bytes
        self.feed(data, start, end)

        self.framing_bytes += end - start - (self.body_bytes - body_bytes_before)
        max_bytes = MAX_HEADER_BYTES + CHUNK_FRAMING_BYTES * self.n_chunks
        if self.state is READING_CHUNKS and self.framing_bytes > max_bytes:
            self.reject(
                "431 Request Header Fields Too Large",
                f"Expected at most {MAX_HEADER_BYTES} bytes of chunk extensions and trailers",
            )
        return end

    def feed(self, data: bytes, start: int, end: int) -> None:
        """Pass a piece to the parser."""
        try:
            self.parser.feed_data(data[start:end])
        except httptools.HttpParserUpgrade:
            self.replace_parser()
        except (httptools.HttpParserError, ConnectionRejected) as error:
            is_unknown_method = isinstance(error, httptools.HttpParserInvalidMethodError)
            if is_unknown_method and begins_with_method(data, start):
                self.reject("501 Not Implemented", "Expected a method of HTTP/1.1")
            elif not self.is_finished:
                self.reject("400 Bad Request", f"Malformed HTTP request: {error}")

    def replace_parser(self) -> None:
        """Read the body of a request for an upgrade, at whose head the parser stops.

        The request is answered as if it did not ask for the upgrade, as HTTP allows: Java's HTTP
        client asks for HTTP/2 with its first POST. Another parser receives a head without Upgrade.
        """
        if self.is_finished:
            return

        is_chunked = self.state is READING_CHUNKS
        self.parser = new_parser(self)
        self.parser.feed_data(head_without_upgrade(self.environ, is_chunked))

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self.state is not READY:
            return
        self.environ: Environ = self.base_environ.copy()
        self.target = b""
        self.n_fields = 0
        self.state = READING_HEAD

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self.target += url
        if len(self.target) > self.worker.max_line_bytes:
            raise self.reject_request_line()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the environ; values of a repeated header are joined.

        A field after a chunked body is not a header: it must not replace or add one (RFC 9110,
        section 6.5.1), because proxies and checks have seen the headers only.
        """
        if self.state is not READING_HEAD:
            return

        self.n_fields += 1
        if self.n_fields > self.max_fields or len(value) > self.max_field_bytes:
            raise self.reject_headers()

        variable = cgi_variable_name(name)
        if not variable:
            return

        text = value.decode("latin-1").rstrip(" \t")
        if variable in self.environ:
            separator = ","
            if variable == "HTTP_COOKIE":
                separator = ";"
            self.environ[variable] += f"{separator}{text}"
            return

        self.environ[variable] = text

    def on_headers_complete(self) -> None:
        """Complete the environ and check the head of the request."""
        if self.state is not READING_HEAD:
            return

        self.head_bytes = 0
        self.body_bytes = 0
        environ = self.environ
        version = self.parser.get_http_version()
        method = self.parser.get_method()
        if len(self.target) + len(method) + LINE_FRAMING_BYTES > self.worker.max_line_bytes:
            raise self.reject_request_line()
        try:
            environ.update(request_line_variables(method, self.target, version))
            check_headers(environ)
        except RequestRejected as error:
            raise self.reject(error.status, error.message) from None

        self.state = READING_BODY
        self.remaining_bytes = int(environ.get("CONTENT_LENGTH", 0))
        if "HTTP_TRANSFER_ENCODING" in environ:
            self.state = READING_CHUNKS
            self.framing_bytes = 0
            self.n_chunks = 0
        if self.remaining_bytes > self.worker.max_body_bytes:
            self.stop_reading()

        has_body = self.remaining_bytes or self.state is READING_CHUNKS
        if has_body and "HTTP_EXPECT" in environ and version == "1.1":
            self.connection.request_body()

    def on_chunk_header(self) -> None:
        """Count a chunk."""
        self.n_chunks += 1

    def on_body(self, data: bytes) -> None:
        """Add a part of the body, if the worker has memory for it."""
        self.body_bytes += len(data)
        self.body_buffer.append(data)
        if self.body_buffer.budget.used_bytes > MAX_BUFFERED_BYTES:
            self.worker.refuse_body(self.connection)
            if self.is_finished:
                raise ConnectionRejected
        if self.body_bytes > self.worker.max_body_bytes:
            self.stop_reading()

    def on_message_complete(self) -> None:
        """Complete the request, unless its body is read by another parser."""
        if self.parser.should_upgrade():
            return
        self.complete_request()
        if not self.parser.should_keep_alive():
            self.finish()

    def complete_request(self) -> None:
        """Leave the request to the connection."""
        self.environ["wsgi.input"] = io.BytesIO(self.body_buffer.take_body())
        self.state = READY
        self.cutter.reset()
        self.request = self.environ

    def forget_request(self) -> None:
        """Hold no reference to a request that is answered now, and may have a long body."""
        self.request = None
        self.environ = self.base_environ

    # Ends.

    def stop_reading(self) -> None:
        """Complete the request without the rest of its body, which the application would reject.

        Raises ConnectionRejected, to end the parser.
        """
        limit = self.worker.max_body_bytes
        if not self.worker.application_limits_body:
            raise self.reject("413 Content Too Large", f"Expected at most {limit} bytes of body")
        self.complete_request()
        self.finish()
        raise ConnectionRejected

    def reject(self, status: str, message: str) -> ConnectionRejected:
        """Send an error response, the last one of this connection.

        Returns the exception with which a callback of the parser ends the parser.
        """
        self.worker.log.info("request rejected: %s: %s", status, message)
        self.body_buffer.release()
        self.finish()
        self.connection.send_error(status, message)
        return ConnectionRejected()

    def reject_headers(self) -> ConnectionRejected:
        """Reject a request whose head is too large."""
        return self.reject(
            "431 Request Header Fields Too Large",
            f"Expected at most {MAX_HEADER_BYTES} bytes and {self.max_fields} fields of headers",
        )

    def reject_request_line(self) -> ConnectionRejected:
        """Reject a request whose first line is too long."""
        return self.reject(
            "414 URI Too Long",
            f"Expected at most {self.worker.max_line_bytes} bytes of request line",
        )
