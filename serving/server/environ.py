"""The WSGI environ of a request, from what the HTTP parser reports."""

from functools import lru_cache
from typing import Any

Environ = dict[str, Any]


@lru_cache(256)
def cgi_variable_name(header_name: bytes) -> str:
    """Return the CGI variable of a header, or "" for a header that has an underscore.

    `X_Api_Key` and `X-Api-Key` have the same CGI variable, so that a client could send the former
    where a proxy removes the latter.
    """
    name = header_name.decode("latin-1").upper()
    if "_" in name:
        return ""

    variable = name.replace("-", "_")
    if variable in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return variable
    return f"HTTP_{variable}"


def connection_variables(transport: Any) -> Environ:
    """Return the variables that all requests of a connection share."""
    server_address = transport.get_extra_info("sockname")
    client_address = transport.get_extra_info("peername")
    if not isinstance(server_address, tuple):
        # A Unix socket; WSGI demands a name and a port.
        return {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": ""}

    client_host = ""
    if client_address:
        client_host = without_ipv6_prefix(client_address[0])
    return {
        "SERVER_NAME": without_ipv6_prefix(server_address[0]),
        "SERVER_PORT": str(server_address[1]),
        "REMOTE_ADDR": client_host,
    }


def without_ipv6_prefix(address: str) -> str:
    """Return an IPv4 address as such where a socket for both gives it as an IPv6 address."""
    return address.removeprefix("::ffff:")
