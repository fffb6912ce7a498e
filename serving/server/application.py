"""A call of the WSGI application, and its response."""

from collections.abc import Callable, Iterator
from contextvars import Context
from functools import lru_cache
from typing import Any

from serving.server.environ import Environ

ERROR_BODY = b'{"error":"Internal Server Error"}\n'
ERROR_HEAD = (
    b"HTTP/1.1 500 Internal Server Error\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
) % len(ERROR_BODY)


class Response:
    """A response: its head without the last lines, and the body or the first part of it."""

    has_date = False  # the application has set the header itself
    has_begun = True  # the first part of the body is known, so the head may be sent
    rest: Iterator[bytes] | None = None  # of the body
    n_rest_bytes: int | None = None  # None: not known
    close: Callable[[], None] | None = None  # to call after the rest
    context: Context | None = None  # in which the rest is computed

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body

    def next_chunk(self) -> bytes | None:
        """Compute the next part of the rest where the context of the request continues.

        Flask's stream_with_context needs that: another thread has another context.
        """
        chunk: bytes | None = self.in_context(next, self.rest, None)
        while chunk == b"":
            chunk = self.in_context(next, self.rest, None)
        return chunk

    def release(self) -> None:
        """Let the application release what the rest of the body needed."""
        if self.close is not None:
            self.in_context(self.close)

    def in_context(self, function: Any, *arguments: Any) -> Any:
        """Call a function of the application in the context of the request."""
        if self.context is None:
            return function(*arguments)
        return self.context.run(function, *arguments)


def error_response() -> Response:
    """Return the response to a request at which the application fails."""
    return Response(ERROR_HEAD, ERROR_BODY)


def call_application(application: Any, environ: Environ) -> Response:
    """Call the application and return its response."""
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        started[:] = status, headers
        return written.append

    result = application(environ, start_response)
    close = getattr(result, "close", None)
    try:
        chunks = iter(result)
        first_chunk = b""
        if not started:
            first_chunk = next(chunks, b"")  # a generator calls start_response no earlier
        status, headers = started
        response, length = encode_head(status, headers)
        if environ["REQUEST_METHOD"] != "HEAD" and not status.startswith(("204", "304")):
            response.body = b"".join(written) + first_chunk
            add_body(response, length, chunks, is_in_memory=hasattr(result, "__len__"))
    except BaseException:
        if close:
            close()
        raise

    if response.rest is not None:
        response.close = close
    elif close:
        close()
    return response


def add_body(
    response: Response, length: int | None, chunks: Iterator[bytes], *, is_in_memory: bool
) -> None:
    """Read the body if that costs no time, or else leave a rest that is computed later."""
    if length is None:
        if is_in_memory:
            response.body += b"".join(chunks)
            response.head += b"Content-Length: %d\r\n" % len(response.body)
        else:
            response.has_begun = bool(response.body)
            response.rest = chunks
        return

    if len(response.body) < length:
        response.body += next(chunks, b"")
    n_rest_bytes = length - len(response.body)
    if n_rest_bytes > 0:
        response.rest = chunks
        response.n_rest_bytes = n_rest_bytes
    elif n_rest_bytes < 0:
        response.body = response.body[:length]


@lru_cache(256)
def lower(name: str) -> str:
    """Return the name of a header in lower case."""
    return name.lower()


def encode_head(status: str, headers: list[tuple[str, str]]) -> tuple[Response, int | None]:
    """Return a response without its body, and the length that the application gives.

    Raises ValueError if the status or a header has a line break or is not Latin-1.
    """
    length = None
    has_date = False
    head = f"HTTP/1.1 {status}\r\n"
    for name, value in headers:
        head += f"{name}: {value}\r\n"
        lower_name = lower(name)
        if lower_name == "content-length":
            length = int(value)
        elif lower_name == "date":
            has_date = True

    n_lines = len(headers) + 1
    if head.count("\n") != n_lines or head.count("\r") != n_lines:
        raise ValueError("the response has a line break in its status or a header")
    response = Response(head.encode("latin-1"), b"")
    response.has_date = has_date
    return response, length
