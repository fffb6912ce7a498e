"""HTTP/1.1 with one client: its bytes to WSGI environs, and answers to bytes. Imports nothing of ours.

The parser is Node.js's, llhttp, through httptools. Here is what a parser leaves open: whose turn it is, how much is
held in memory, how long a client may take, and when a connection ends.
"""

import asyncio
import io
import json
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

MAX_HEADER_BYTES, MAX_HEADER_FIELDS = (
    65536,
    100,
)  # bytes of request line and headers, and how many headers
MAX_BUFFERED_BYTES = 32 * 2**20  # bytes of bodies that wait, all connections of a worker together
LINGER_SECONDS = 5.0  # seconds for what is on its way: after the last answer; to a client that is idle as the worker stops

Environ = dict[str, Any]


class ConnectionRejected(Exception):
    """Raised out of the parser: no more of this connection is read."""


@lru_cache(256)
def cgi_variable_name(name: bytes) -> str:
    """Return the CGI name of a header, or "" where an underscore would make it pass for another."""
    text = name.decode("latin-1").upper()
    plain = text.replace("-", "_")
    return (
        ""
        if "_" in text
        else plain
        if plain in ("CONTENT_TYPE", "CONTENT_LENGTH")
        else f"HTTP_{plain}"
    )


class Connection(asyncio.Protocol):
    """One client, whose requests are answered one after the other."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.parser = httptools.HttpRequestParser(self)
        self.pending_responses: deque[Callable[[], None]] = (
            deque()
        )  # what answers each request that is whole
        self.parse_state = ""  # the part of a request that is being read: its head, its body
        self.size = 0  # bytes of the head so far
        self.body = bytearray()
        self.unparsed_body_bytes = 0  # bytes of it that the parser will not read
        self.buffered_bytes = 0  # bytes of bodies that were not answered
        self.response_in_progress = False  # a thread is at work for this client
        self.reading_paused = False  # nothing is read
        self.no_more_requests = False  # no more requests are read
        self.writable = asyncio.Event()
        self.writable.set()
        self.last_activity = worker.now  # seconds, when it was last heard

    def connection_made(self, transport: Any) -> None:
        """Describe what all requests of this connection have in common."""
        self.transport: Any = transport
        server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        known = {
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
            "REMOTE_ADDR": client[0] if client else "",
        }
        self.base_environ = self.worker.environ | known
        self.max_environ_size = len(self.base_environ) + MAX_HEADER_FIELDS
        self.worker.connections.add(self)
        if len(self.worker.connections) > self.worker.cfg.worker_connections:
            self.reject("503 Service Unavailable", "Too many connections")
            self.process_next()

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the client, and what it had asked."""
        self.worker.connections.discard(self)
        self.no_more_requests = True
        self.pending_responses.clear()
        self.release_buffer(self.buffered_bytes)
        self.writable.set()  # a thread that waits to write finds the connection closing

    def data_received(self, data: bytes) -> None:
        """Read on, and answer what is whole."""
        if self.no_more_requests:
            return
        try:
            self.feed_parser(data)
        except (httptools.HttpParserError, ConnectionRejected) as error:
            if not self.no_more_requests:
                self.reject("400 Bad Request", f"Not HTTP/1.1: {error}")
        if self.parse_state == "head":
            self.size += len(data)
            if self.size > MAX_HEADER_BYTES:
                self.reject_headers()
        self.process_next()

    def feed_parser(self, data: bytes) -> None:
        """Have bytes parsed, but for the body of a request that asks for an upgrade: llhttp stops before that."""
        if not self.unparsed_body_bytes:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                # Answered as if nothing else had been asked for: Java's client asks so with its first POST.
                if "HTTP_TRANSFER_ENCODING" in self.environ:
                    raise self.reject(
                        "501 Not Implemented", "Expected Content-Length beside Upgrade"
                    ) from stopped
                self.unparsed_body_bytes, data = (
                    int(self.environ.get("CONTENT_LENGTH", 0)),
                    data[stopped.args[0] :],
                )
        piece, self.unparsed_body_bytes = (
            data[: self.unparsed_body_bytes],
            max(self.unparsed_body_bytes - len(data), 0),
        )
        if piece:
            self.on_body(piece)
        if not self.unparsed_body_bytes:
            self.enqueue_request()
            self.no_more_requests = True

    # What the parser finds.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.environ = self.base_environ.copy()
        self.target = b""
        self.body = bytearray()
        self.parse_state, self.size, self.last_activity = "head", 0, self.worker.now

    def on_url(self, url: bytes) -> None:
        """Take the target, or a piece of it."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes again is joined to the first."""
        key = cgi_variable_name(name)
        if key in self.environ:
            self.environ[key] += f"{';' if key == 'HTTP_COOKIE' else ','}{value.decode('latin-1')}"
        elif key:
            self.environ[key] = value.decode("latin-1")
            if len(self.environ) > self.max_environ_size:
                raise self.reject_headers()

    def on_headers_complete(self) -> None:
        """Complete the environ, and ask for the body if the application would take it."""
        environ, self.parse_state = self.environ, "body"
        version = self.parser.get_http_version()
        path, _, query = self.target.partition(b"?")
        if not path.startswith(b"/"):  # http://host/path, as a proxy is asked; OPTIONS *
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        environ["REQUEST_METHOD"] = self.parser.get_method().decode("latin-1")
        environ["PATH_INFO"] = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
        environ["QUERY_STRING"] = query.decode("latin-1")
        environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
        if version != "1.0" and ("HTTP_HOST" not in environ or "," in environ["HTTP_HOST"]):
            raise self.reject("400 Bad Request", "Expected one Host header")
        if int(environ.get("CONTENT_LENGTH", 0)) > self.worker.max_body_bytes:
            self.stop_reading()
        if (
            "HTTP_EXPECT" in environ
            and version != "1.0"
            and not (self.response_in_progress or self.pending_responses)
        ):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body, if there is room for it."""
        self.body += data
        self.buffered_bytes += len(data)
        self.worker.buffered_bytes += len(data)
        if self.worker.buffered_bytes > MAX_BUFFERED_BYTES:
            raise self.reject("503 Service Unavailable", "Too much is being sent at once")
        if len(self.body) > self.worker.max_body_bytes:
            self.stop_reading()

    def on_message_complete(self) -> None:
        """Queue the request, if its body was read."""
        if not self.parser.should_keep_alive():
            self.no_more_requests = True
        if not self.parser.should_upgrade():
            self.enqueue_request()

    def enqueue_request(self) -> None:
        """Have the request answered in its turn."""
        body, self.body, self.parse_state = self.body, bytearray(), ""
        self.environ["wsgi.input"] = io.BytesIO(body)
        self.pending_responses.append(partial(self.worker.dispatch, self, self.environ, len(body)))

    def stop_reading(self) -> None:
        """Queue a request without the rest of its body, which the application will not take. Raises Refused."""
        self.enqueue_request()
        self.no_more_requests = True
        raise ConnectionRejected

    def reject(self, status: str, text: str) -> ConnectionRejected:
        """Queue the last answer on this connection, to what never reaches the application."""
        self.worker.log.info("refused a request: %s: %s", status, text)
        self.release_buffer(len(self.body))
        self.body, self.parse_state, self.no_more_requests = bytearray(), "", True
        body = json.dumps({"error": text}).encode() + b"\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.pending_responses.append(partial(self.write_response, head, body, "HTTP/1.1"))
        return ConnectionRejected()

    def reject_headers(self) -> ConnectionRejected:
        """Refuse headers that do not end."""
        expected = (
            f"Expected at most {MAX_HEADER_BYTES} bytes and {MAX_HEADER_FIELDS} fields of headers"
        )
        return self.reject("431 Request Header Fields Too Large", expected)

    # What is answered.

    def process_next(self) -> None:
        """Answer the next request if nothing is in the way, and read no more while there is another one."""
        if self.pending_responses and not self.response_in_progress and self.writable.is_set():
            self.pending_responses.popleft()()
            if self.pending_responses:
                self.worker.loop.call_soon(
                    self.process_next
                )  # before it, other clients have their turn
        full = self.response_in_progress or bool(self.pending_responses)
        if full != self.reading_paused and not self.transport.is_closing():
            self.reading_paused = full
            (self.transport.pause_reading if full else self.transport.resume_reading)()

    def send_result(self, environ: Environ, size: int, head: str, body: Any) -> None:
        """Send what the application answered, if there is still somebody to send it to."""
        self.response_in_progress = False
        self.release_buffer(size)
        if not self.transport.is_closing():
            self.write_response(head, body, environ["SERVER_PROTOCOL"])
        elif hasattr(body, "close"):
            body.close()

    def release_buffer(self, size: int) -> None:
        """Make room for other bodies; those of a lost connection were released with it."""
        size = min(size, self.buffered_bytes)
        self.buffered_bytes -= size
        self.worker.buffered_bytes -= size

    def write_response(self, head: str, body: Any, protocol: str) -> None:
        """Write an answer; a body that is not bytes, piece by piece from a thread."""
        self.worker.count_response()
        old, whole = protocol == "HTTP/1.0", isinstance(body, bytes)
        # An old client takes the end of the connection for the end of a body whose length is not known.
        keep = (
            self.worker.alive
            and (bool(self.pending_responses) or not self.no_more_requests)
            and (whole or not old)
        )
        head += self.worker.date
        if not whole and not old:
            head += "Transfer-Encoding: chunked\r\n"
        if not keep:
            head += "Connection: close\r\n"
        elif old:
            head += "Connection: keep-alive\r\n"
        start = f"{head}\r\n".encode("latin-1")
        if whole:
            self.transport.write(start + body)
            self.response_written(keep)
        else:
            self.transport.write(start)
            self.response_in_progress = True
            self.worker.pool.submit(self.worker.stream_body, self, body, not old, keep)

    def response_written(self, keep: bool) -> None:
        """Wait for the next request, or say that there will be none and let what is on its way run out."""
        self.last_activity = self.worker.now
        if not keep:
            self.no_more_requests = True
            self.pending_responses.clear()
            if not self.transport.is_closing():
                self.transport.write_eof()

    async def write(self, data: bytes) -> None:
        """Write once there is room. Raises ConnectionError where nobody reads any more."""
        await self.writable.wait()
        if self.transport.is_closing():
            raise ConnectionError
        self.transport.write(data)

    def stream_finished(self, end: bytes, keep: bool) -> None:
        """End a body that was written in pieces."""
        self.response_in_progress = False
        if not self.transport.is_closing():
            self.transport.write(end)
            self.response_written(keep)
        self.process_next()

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        self.last_activity = self.worker.now
        self.writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self.writable.set()
        self.process_next()

    def check_timeouts(self) -> None:
        """End what takes too long: to arrive, to be read, to ask again, to go."""
        silent, cfg = self.worker.now - self.last_activity, self.worker.cfg
        if not self.writable.is_set():
            if silent > cfg.timeout:
                self.transport.abort()
        elif self.response_in_progress or self.pending_responses:
            pass
        elif self.no_more_requests:
            if silent > LINGER_SECONDS:
                self.transport.abort()
        elif self.parse_state:
            if silent > cfg.timeout:
                self.reject(
                    "408 Request Timeout", f"Expected the whole request within {cfg.timeout} s"
                )
                self.process_next()
        elif silent > (cfg.keepalive if self.worker.alive else LINGER_SECONDS):
            self.transport.close()
