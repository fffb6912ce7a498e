"""llhttp, the parser of Node.js (package httptools), as this server uses it."""

from typing import Any

import httptools

from serving.server.environ import Environ


def new_parser(callbacks: Any) -> httptools.HttpRequestParser:
    """Return a parser that is strict, but for spaces after a chunk size (RFC 9112, 7.1.1)."""
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
    return parser


def head_without_upgrade(environ: Environ, is_chunked: bool) -> bytes:
    """Return a head after which a parser reads the body, and keeps or closes the connection."""
    lines = [f"POST / {environ['SERVER_PROTOCOL']}"]
    for option in environ.get("HTTP_CONNECTION", "").lower().split(","):
        if option.strip() in ("close", "keep-alive"):
            lines.append(f"Connection: {option}")

    if is_chunked:
        lines.append("Transfer-Encoding: chunked")
    else:
        length = environ.get("CONTENT_LENGTH", "0")
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
