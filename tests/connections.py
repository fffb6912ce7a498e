"""Raw connections to a service, on which a test sends any bytes."""

import socket
import sys

from helpers import EXAMPLE_REQUEST

POST = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
)

ONE = POST % len(EXAMPLE_REQUEST) + b"\r\n" + EXAMPLE_REQUEST

PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

OPENED = []


class RawConnection:
    """A connection on which a test says what it likes, and reads what comes."""

    def __init__(self, address, data=b""):
        host, port = address.split(":")
        self.adopt(socket.create_connection((host, int(port)), timeout=20))
        self.send(data)

    def adopt(self, connected):
        """Use a connected socket; the connection is closed after the test."""
        self.socket = connected
        self.file = connected.makefile("rb")
        OPENED.append(self)

    def send(self, data):
        self.socket.sendall(data)

    def answer(self, has_body=True):
        """Return status, headers and body of the next answer."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        if not has_body:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                assert self.file.readline() == b"\r\n"
            assert self.file.readline() == b"\r\n"
            return status, headers, body
        return status, headers, self.file.read(int(headers.get("content-length", 0)))

    def ended(self):
        """Return whether the server closes, and says nothing more."""
        return self.file.read(1) == b""

    def is_closed(self):
        """Return whether the server answers no further request."""
        try:
            self.send(PROBE)
            return self.file.readline() == b""
        except ConnectionError:
            return True

    def close(self):
        self.file.close()
        self.socket.close()


def exchange(service, data, answers=1):
    """Return what is answered to these bytes, and whether the connection is closed after it."""
    client = RawConnection(service.address, data)
    try:
        responses = [client.answer() for _ in range(answers)]
        return responses, client.is_closed()
    finally:
        client.close()


def gunicorn_with(**settings):
    """Return the command of gunicorn with settings that replace those in gunicorn.conf.py."""
    options = []
    for name, value in settings.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    return [sys.executable, "-m", "gunicorn", *options, "app:app"]
