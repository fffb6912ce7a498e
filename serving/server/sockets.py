"""What the kernel knows of sockets and descriptors."""

import fcntl
import resource
import socket
import sys
import termios
from typing import Any


def all_interfaces() -> str:
    """Return the address to listen on for IPv6 and IPv4, or for IPv4 where there is no IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            is_ipv6_only = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return "0.0.0.0"  # noqa: S104 - as in a container
    if is_ipv6_only:  # by the system's setting net.ipv6.bindv6only
        return "0.0.0.0"  # noqa: S104
    return "[::]"


def find_bind_error(address: tuple[str, int]) -> OSError | None:
    """Return why nobody can listen on `address`, or None."""
    family = socket.AF_INET
    if ":" in address[0]:
        family = socket.AF_INET6
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the listener will
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            return error
    return None


def unacknowledged_bytes(transport: Any) -> int:
    """Return how many bytes the kernel holds that the client has not received yet.

    The kernel takes a new part of a response only when a third of its own buffer is free. At 40 kB
    a second that takes longer than the time limit, so a slow client would seem to be silent.
    """
    connection = transport.get_extra_info("socket")
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # the system does not tell, or the socket is closed
        return 0
    return int.from_bytes(answer, sys.byteorder)


def raise_descriptor_limit() -> int:
    """Let the process open as many files as it may, and return how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # a system whose hard limit is only nominal
        return soft
    return hard
