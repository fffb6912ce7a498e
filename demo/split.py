"""A weighted split: an address behind which two services answer, as behind a gateway."""

import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COPIED_HEADERS = ("Content-Type", "X-Model-Version", "X-Request-ID")


class WeightedSplit:
    """A proxy that sends each request to one of two services, by chance."""

    def __init__(self, port: int, urls: tuple[str, str]) -> None:
        self.url = f"http://localhost:{port}"
        self.second_share = 0.0  # of the requests, for the second service
        self._addresses = [urlsplit(url).netloc for url in urls]
        self._random = random.Random(0)  # noqa: S311 - no secret

        split = self

        class Handler(BaseHTTPRequestHandler):
            """Forwards one request."""

            def do_GET(self) -> None:
                """Forward a request without a body."""
                split.forward(self)

            def do_POST(self) -> None:
                """Forward a request with its body."""
                split.forward(self)

            def log_message(self, *_: object) -> None:
                """Write nothing: the demo says what happens."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def choose(self) -> str:
        """Return the address of a service, by the weights."""
        is_second = self._random.random() < self.second_share
        return self._addresses[int(is_second)]

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """Send a request to one of the services, and its response back."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection(self.choose(), timeout=30)
        try:
            content_type = request.headers.get("Content-Type", "")
            connection.request(request.command, request.path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()

        request.send_response(response.status)
        for name in COPIED_HEADERS:
            value = response.getheader(name)
            if value is not None:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def stop(self) -> None:
        """Close the address."""
        self._server.shutdown()
        self._server.server_close()
