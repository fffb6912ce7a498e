"""The head of a request: its first line in the environ, and what this server refuses in it."""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from serving.server.environ import Environ

# RFC 3986: a name, an IPv4 address or an IPv6 address in brackets, and a port; no user.
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]*)(:[0-9]*)?")
ABSOLUTE_TARGET = re.compile(rb"https?://[^/?]*(.*)", re.IGNORECASE | re.DOTALL)


class RequestRejected(Exception):
    """A request that is answered with an error, after which its connection ends."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


def malformed(message: str) -> RequestRejected:
    """Return the exception for a request that is not HTTP."""
    return RequestRejected("400 Bad Request", f"Malformed HTTP request: {message}")


@lru_cache(256)
def request_line_variables(method: bytes, target: bytes, version: str) -> Environ:
    """Return the variables of the request line. Raises RequestRejected."""
    if version not in ("1.1", "1.0"):
        raise malformed("expected HTTP/1.1 or HTTP/1.0")
    if method == b"CONNECT":
        raise RequestRejected("501 Not Implemented", "Expected a request, not a tunnel")
    if b"#" in target:
        raise malformed("the request target has a fragment")

    raw_target = target
    if not target.startswith(b"/"):
        target = path_of_other_form(method, target)
    path, _, query = target.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)

    return {
        "REQUEST_METHOD": method.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "RAW_URI": raw_target.decode("latin-1"),  # as in gunicorn's own workers
        "SERVER_PROTOCOL": f"HTTP/{version}",
    }


def path_of_other_form(method: bytes, target: bytes) -> bytes:
    """Return path and query of `http://host/path`, which a client sends to a proxy, or of `*`.

    Raises RequestRejected for a target that is neither.
    """
    if target == b"*" and method == b"OPTIONS":
        return b"/"

    match = ABSOLUTE_TARGET.fullmatch(target)
    if match is None:
        raise malformed("expected a path as request target")
    rest = match[1]
    if not rest.startswith(b"/"):
        return b"/" + rest
    return rest


def check_headers(environ: Environ) -> None:
    """Refuse a host, a coding or an expectation that this server cannot honour.

    Raises RequestRejected.
    """
    is_http10 = environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    if "HTTP_HOST" in environ:
        has_host = is_valid_host(environ["HTTP_HOST"])
    else:
        has_host = is_http10
    if not has_host:
        raise malformed("expected one Host header")

    if "HTTP_TRANSFER_ENCODING" in environ:
        if is_http10:
            raise malformed("expected no Transfer-Encoding in HTTP/1.0")
        codings = environ["HTTP_TRANSFER_ENCODING"].lower()
        if not codings.endswith("chunked"):
            raise malformed("expected chunked as last Transfer-Encoding")
        if codings != "chunked":
            raise RequestRejected("501 Not Implemented", "Expected Transfer-Encoding: chunked")

    if "HTTP_EXPECT" not in environ or is_http10:
        return
    if environ["HTTP_EXPECT"].lower() != "100-continue":
        raise RequestRejected("417 Expectation Failed", "Expected Expect: 100-continue")


@lru_cache(256)
def is_valid_host(host: str) -> bool:
    """Return whether the value of a Host header names one host."""
    return HOST.fullmatch(host) is not None
