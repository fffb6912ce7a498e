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

HEAD, FIELDS = 65536, 100  # bytes of request line and headers, and how many headers
HELD = 32 * 2**20  # bytes of bodies that wait, all connections of a worker together
LINGER = 5.0  # seconds for what is on its way: after the last answer; to a client that is idle as the worker stops

Environ = dict[str, Any]


class Refused(Exception):
    """Raised out of the parser: no more of this connection is read."""


@lru_cache(256)
def variable(name: bytes) -> str:
    """Return the CGI name of a header, or "" where an underscore would make it pass for another."""
    text = name.decode("latin-1").upper()
    plain = text.replace("-", "_")
    return "" if "_" in text else plain if plain in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{plain}"


class Connection(asyncio.Protocol):
    """One client, whose requests are answered one after the other."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[Callable[[], None]] = deque()  # what answers each request that is whole
        self.reading = ""  # the part of a request that is being read: its head, its body
        self.size = 0  # bytes of the head so far
        self.body = bytearray()
        self.left = 0  # bytes of it that the parser will not read
        self.held = 0  # bytes of bodies that were not answered
        self.busy = False  # a thread is at work for this client
        self.paused = False  # nothing is read
        self.ended = False  # no more requests are read
        self.writable = asyncio.Event()
        self.writable.set()
        self.since = worker.now  # seconds, when it was last heard

    def connection_made(self, transport: Any) -> None:
        """Describe what all requests of this connection have in common."""
        self.transport: Any = transport
        server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        known = {"SERVER_NAME": server[0], "SERVER_PORT": str(server[1]), "REMOTE_ADDR": client[0] if client else ""}
        self.template = self.worker.environ | known
        self.most_fields = len(self.template) + FIELDS
        self.worker.connections.add(self)
        if len(self.worker.connections) > self.worker.cfg.worker_connections:
            self.refuse("503 Service Unavailable", "Too many connections")
            self.proceed()

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the client, and what it had asked."""
        self.worker.connections.discard(self)
        self.ended = True
        self.waiting.clear()
        self.release(self.held)
        self.writable.set()  # a thread that waits to write finds the connection closing

    def data_received(self, data: bytes) -> None:
        """Read on, and answer what is whole."""
        if self.ended:
            return
        try:
            self.feed(data)
        except (httptools.HttpParserError, Refused) as error:
            if not self.ended:
                self.refuse("400 Bad Request", f"Not HTTP/1.1: {error}")
        if self.reading == "head":
            self.size += len(data)
            if self.size > HEAD:
                self.too_long()
        self.proceed()

    def feed(self, data: bytes) -> None:
        """Have bytes parsed, but for the body of a request that asks for an upgrade: llhttp stops before that."""
        if not self.left:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                # Answered as if nothing else had been asked for: Java's client asks so with its first POST.
                if "HTTP_TRANSFER_ENCODING" in self.environ:
                    raise self.refuse("501 Not Implemented", "Expected Content-Length beside Upgrade") from stopped
                self.left, data = int(self.environ.get("CONTENT_LENGTH", 0)), data[stopped.args[0] :]
        piece, self.left = data[: self.left], max(self.left - len(data), 0)
        if piece:
            self.on_body(piece)
        if not self.left:
            self.queue()
            self.ended = True

    # What the parser finds.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.environ = self.template.copy()
        self.target = b""
        self.body = bytearray()
        self.reading, self.size, self.since = "head", 0, self.worker.now

    def on_url(self, url: bytes) -> None:
        """Take the target, or a piece of it."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes again is joined to the first."""
        key = variable(name)
        if key in self.environ:
            self.environ[key] += f"{';' if key == 'HTTP_COOKIE' else ','}{value.decode('latin-1')}"
        elif key:
            self.environ[key] = value.decode("latin-1")
            if len(self.environ) > self.most_fields:
                raise self.too_long()

    def on_headers_complete(self) -> None:
        """Complete the environ, and ask for the body if the application would take it."""
        environ, self.reading = self.environ, "body"
        version = self.parser.get_http_version()
        path, _, query = self.target.partition(b"?")
        if not path.startswith(b"/"):  # http://host/path, as a proxy is asked; OPTIONS *
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        environ["REQUEST_METHOD"] = self.parser.get_method().decode("latin-1")
        environ["PATH_INFO"] = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
        environ["QUERY_STRING"] = query.decode("latin-1")
        environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
        if version != "1.0" and ("HTTP_HOST" not in environ or "," in environ["HTTP_HOST"]):
            raise self.refuse("400 Bad Request", "Expected one Host header")
        if int(environ.get("CONTENT_LENGTH", 0)) > self.worker.most:
            self.cut()
        if "HTTP_EXPECT" in environ and version != "1.0" and not (self.busy or self.waiting):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body, if there is room for it."""
        self.body += data
        self.held += len(data)
        self.worker.held += len(data)
        if self.worker.held > HELD:
            raise self.refuse("503 Service Unavailable", "Too much is being sent at once")
        if len(self.body) > self.worker.most:
            self.cut()

    def on_message_complete(self) -> None:
        """Queue the request, if its body was read."""
        if not self.parser.should_keep_alive():
            self.ended = True
        if not self.parser.should_upgrade():
            self.queue()

    def queue(self) -> None:
        """Have the request answered in its turn."""
        body, self.body, self.reading = self.body, bytearray(), ""
        self.environ["wsgi.input"] = io.BytesIO(body)
        self.waiting.append(partial(self.worker.perform, self, self.environ, len(body)))

    def cut(self) -> None:
        """Queue a request without the rest of its body, which the application will not take. Raises Refused."""
        self.queue()
        self.ended = True
        raise Refused

    def refuse(self, status: str, text: str) -> Refused:
        """Queue the last answer on this connection, to what never reaches the application."""
        self.worker.log.info("refused a request: %s: %s", status, text)
        self.release(len(self.body))
        self.body, self.reading, self.ended = bytearray(), "", True
        body = json.dumps({"error": text}).encode() + b"\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.waiting.append(partial(self.send, head, body, "HTTP/1.1"))
        return Refused()

    def too_long(self) -> Refused:
        """Refuse headers that do not end."""
        expected = f"Expected at most {HEAD} bytes and {FIELDS} fields of headers"
        return self.refuse("431 Request Header Fields Too Large", expected)

    # What is answered.

    def proceed(self) -> None:
        """Answer the next request if nothing is in the way, and read no more while there is another one."""
        if self.waiting and not self.busy and self.writable.is_set():
            self.waiting.popleft()()
            if self.waiting:
                self.worker.loop.call_soon(self.proceed)  # before it, other clients have their turn
        full = self.busy or bool(self.waiting)
        if full != self.paused and not self.transport.is_closing():
            self.paused = full
            (self.transport.pause_reading if full else self.transport.resume_reading)()

    def finish(self, environ: Environ, size: int, head: str, body: Any) -> None:
        """Send what the application answered, if there is still somebody to send it to."""
        self.busy = False
        self.release(size)
        if not self.transport.is_closing():
            self.send(head, body, environ["SERVER_PROTOCOL"])
        elif hasattr(body, "close"):
            body.close()

    def release(self, size: int) -> None:
        """Make room for other bodies; those of a lost connection were released with it."""
        size = min(size, self.held)
        self.held -= size
        self.worker.held -= size

    def send(self, head: str, body: Any, protocol: str) -> None:
        """Write an answer; a body that is not bytes, piece by piece from a thread."""
        self.worker.count()
        old, whole = protocol == "HTTP/1.0", isinstance(body, bytes)
        # An old client takes the end of the connection for the end of a body whose length is not known.
        keep = self.worker.alive and (bool(self.waiting) or not self.ended) and (whole or not old)
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
            self.sent(keep)
        else:
            self.transport.write(start)
            self.busy = True
            self.worker.pool.submit(self.worker.stream, self, body, not old, keep)

    def sent(self, keep: bool) -> None:
        """Wait for the next request, or say that there will be none and let what is on its way run out."""
        self.since = self.worker.now
        if not keep:
            self.ended = True
            self.waiting.clear()
            if not self.transport.is_closing():
                self.transport.write_eof()

    async def write(self, data: bytes) -> None:
        """Write once there is room. Raises ConnectionError where nobody reads any more."""
        await self.writable.wait()
        if self.transport.is_closing():
            raise ConnectionError
        self.transport.write(data)

    def streamed(self, end: bytes, keep: bool) -> None:
        """End a body that was written in pieces."""
        self.busy = False
        if not self.transport.is_closing():
            self.transport.write(end)
            self.sent(keep)
        self.proceed()

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        self.since = self.worker.now
        self.writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self.writable.set()
        self.proceed()

    def check(self) -> None:
        """End what takes too long: to arrive, to be read, to ask again, to go."""
        silent, cfg = self.worker.now - self.since, self.worker.cfg
        if not self.writable.is_set():
            if silent > cfg.timeout:
                self.transport.abort()
        elif self.busy or self.waiting:
            pass
        elif self.ended:
            if silent > LINGER:
                self.transport.abort()
        elif self.reading:
            if silent > cfg.timeout:
                self.refuse("408 Request Timeout", f"Expected the whole request within {cfg.timeout} s")
                self.proceed()
        elif silent > (cfg.keepalive if self.worker.alive else LINGER):
            self.transport.close()
