"""A call of the WSGI application, and its response."""

from collections.abc import Callable, Iterator
from contextvars import Context
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

    __slots__ = ("body", "close", "context", "has_date", "head", "n_rest_bytes", "rest")

    def __init__(self, head: bytes, body: bytes, *, has_date: bool = False) -> None:
        self.head = head
        self.body = body
        self.has_date = has_date  # the application has set the header itself
        self.rest: Iterator[bytes] | None = None  # of the body
        self.n_rest_bytes: int | None = None  # None: not known
        self.close: Callable[[], None] | None = None  # to call after the rest
        self.context: Context | None = None  # in which the rest is computed


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
        first_chunk = next(chunks, b"")  # a generator calls start_response no earlier
        status, headers = started
        if written:
            first_chunk = b"".join(written) + first_chunk
        if environ["REQUEST_METHOD"] == "HEAD" or status.startswith(("204", "304")):
            response = encode_head(status, headers)[0]
        else:
            response = read_response(
                status, headers, first_chunk, chunks, hasattr(result, "__len__")
            )
    except BaseException:
        if close:
            close()
        raise

    if response.rest is not None:
        response.close = close
    elif close:
        close()
    return response


def read_response(
    status: str,
    headers: list[tuple[str, str]],
    first_chunk: bytes,
    chunks: Iterator[bytes],
    is_in_memory: bool,
) -> Response:
    """Return a response whose body is complete, or has a rest that is computed later."""
    response, length = encode_head(status, headers)
    response.body = first_chunk
    if length is None and is_in_memory:
        response.body += b"".join(chunks)
        length = len(response.body)
        response.head += b"Content-Length: %d\r\n" % length

    if length is None:
        response.rest = chunks
    elif len(response.body) < length:
        response.rest = chunks
        response.n_rest_bytes = length - len(response.body)
    else:
        response.body = response.body[:length]
    return response


def encode_head(status: str, headers: list[tuple[str, str]]) -> tuple[Response, int | None]:
    """Return a response without its body, and the length that the application gives.

    Raises ValueError if the status or a header has a line break or is not Latin-1.
    """
    length = None
    has_date = False
    lines = [f"HTTP/1.1 {status}\r\n"]
    for name, value in headers:
        lines.append(f"{name}: {value}\r\n")
        # The length of a name is compared first, because that costs less than its lower case.
        if len(name) == len("Content-Length") and name.lower() == "content-length":
            length = int(value)
        elif len(name) == len("Date") and name.lower() == "date":
            has_date = True

    head = "".join(lines)
    if head.count("\n") != len(lines) or head.count("\r") != len(lines):
        raise ValueError("the response has a line break in its status or a header")
    return Response(head.encode("latin-1"), b"", has_date=has_date), length
