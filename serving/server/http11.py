"""HTTP/1.1 with one client: the order of its responses, their framing, and its time limits.

The package imports nothing of the service.
"""

import asyncio
import json
import time
from typing import Any

from serving.server.application import Response
from serving.server.request_reader import RequestReader, RequestState
from serving.server.sockets import unacknowledged_bytes
from serving.server.streaming import ClientDisconnected

# How long a connection stays open for data in transit: after its last response, and, while the
# worker stops, for a client that is idle.
LINGER_SECONDS = 5.0
RETRY_AFTER_SECONDS = 1  # of a client that the worker has no room for


class Connection(asyncio.BufferedProtocol):
    """One client, whose requests are read and answered one after the other."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.unread = b""  # received, but not yet parsed
        self.is_paused = False  # nothing is received
        self.is_busy = False  # a thread computes or streams a response
        self.response: Response | None = None  # that a thread has computed
        self.is_chunked = False  # the response that is streamed
        self.keep_alive = True
        self.is_ending = False  # the last response is written, or waits for the client to read
        self.protocol = ""  # of the request that is answered
        self.writable = asyncio.Event()
        self.writable.set()
        self.unsent_bytes = 0  # at the last check
        self.last_progress = time.monotonic()  # when a byte was received, or sent to the client

    # Called by the event loop.

    def connection_made(self, transport: Any) -> None:
        """Register the connection, or reject it if the worker has too many."""
        self.transport: Any = transport
        self.reader = RequestReader(self)

        self.worker.connections.add(self)
        if len(self.worker.connections) > self.worker.max_clients:
            self.reader.reject("503 Service Unavailable", "Too many connections")

    def connection_lost(self, _: Exception | None) -> None:
        """Drop what the client has sent, and what waits for it."""
        self.worker.remove_connection(self)
        self.reader.finish()
        self.unread = b""
        if not self.is_busy:
            self.reader.body_buffer.release()
        self.writable.set()  # a thread that waits to write finds the connection closing

    def get_buffer(self, _: int) -> memoryview:
        """Return the buffer that all connections receive into."""
        view: memoryview = self.worker.receive_buffer
        return view

    def buffer_updated(self, n_bytes: int) -> None:
        """Read requests, and answer those that are complete."""
        if self.reader.is_finished:
            return
        self.unread += self.worker.receive_buffer[:n_bytes]
        self.read_next()

    def pause_writing(self) -> None:
        """Write no more until the client reads."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Continue with the next request, or end the connection."""
        self.last_progress = time.monotonic()
        self.writable.set()
        # Through the loop: the transport, which calls this, has not finished its own write yet.
        if self.is_ending:
            self.worker.loop.call_soon(self.close_output)
        else:
            self.worker.loop.call_soon(self.read_next)

    # Requests.

    def read_next(self) -> None:
        """Read the next request and answer it, unless one is being answered."""
        reader = self.reader
        data = self.unread
        position = 0
        environ = None
        if self.can_answer():
            while position < len(data) and environ is None and not reader.is_finished:
                begin = position
                position = reader.read(data, begin)
                environ = reader.request
                if position == begin:
                    break

        self.unread = data[position:]
        if environ is None:
            self.last_progress = time.monotonic()
        else:
            reader.forget_request()
            self.protocol = environ["SERVER_PROTOCOL"]
            self.worker.dispatch(self, environ)

        if self.unread or self.is_paused or not self.can_answer():
            self.control_reading(has_answered=environ is not None)

    def control_reading(self, *, has_answered: bool) -> None:
        """Receive more data, unless what was received has to wait."""
        self.is_paused = False
        if self.reader.is_finished:
            self.unread = b""
        elif not self.can_answer():
            self.is_paused = True
        elif self.unread and has_answered:
            # Through the loop, so that the other clients have their turn.
            self.is_paused = True
            self.worker.loop.call_soon(self.read_next)

        # The transport ignores these calls where they change nothing, or where it is closing.
        if self.is_paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def can_answer(self) -> bool:
        """Return whether the next request may be read, which is then answered at once."""
        return not self.is_busy and self.writable.is_set() and not self.reader.is_finished

    def request_body(self) -> None:
        """Tell a client that waits before it sends a body to send it."""
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Responses.

    def send_error(self, status: str, message: str) -> None:
        """Send an error response to a request that does not reach the application."""
        body = json.dumps({"error": message}).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
        )
        if status.startswith("503"):
            head += f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
        self.send_response(Response(head.encode(), body))

    def send_thread_response(self) -> None:
        """Send the response that a thread has computed."""
        response = self.response
        self.response = None
        self.is_busy = False
        if response is not None:
            self.send_response(response)
        self.read_next()

    def send_response(self, response: Response) -> None:
        """Send a response; a thread computes the rest of its body, if there is one."""
        self.reader.body_buffer.release()
        if self.transport.is_closing():
            response.release()
            return

        self.worker.count_response()
        is_http10 = self.protocol == "HTTP/1.0"
        has_length = response.rest is None or response.n_rest_bytes is not None
        self.is_chunked = not has_length and not is_http10
        # To an HTTP/1.0 client the end of the connection is the end of a body of unknown length.
        is_last = self.reader.is_finished or not self.worker.alive
        self.keep_alive = not is_last and (has_length or not is_http10)

        head = response.head
        if not response.has_date:
            head += self.worker.date
        if self.is_chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        if not self.keep_alive:
            head += b"Connection: close\r\n"
        elif is_http10:
            head += b"Connection: keep-alive\r\n"
        self.write(b"%b\r\n%b" % (head, self.frame(response.body)))

        if response.rest is None:
            self.finish_response()
        else:
            self.is_busy = True
            self.worker.stream(self, response)

    def frame(self, data: bytes) -> bytes:
        """Return a part of a body as it is sent."""
        if self.is_chunked and data:
            return b"%x\r\n%b\r\n" % (len(data), data)
        return data

    def write(self, data: bytes) -> None:
        """Write data, which waits in memory if the client does not read."""
        self.transport.write(data)
        if self.transport.get_write_buffer_size():
            self.worker.response_limit.add(self)

    async def write_part(self, data: bytes) -> None:
        """Write a part of a body once the client reads. Raises ClientDisconnected."""
        await self.writable.wait()
        if self.transport.is_closing():
            raise ClientDisconnected
        self.write(self.frame(data))

    def finish_stream(self) -> None:
        """End a body that a thread has streamed."""
        self.is_busy = False
        if not self.transport.is_closing():
            if self.is_chunked:
                self.write(b"0\r\n\r\n")
            self.finish_response()
        self.read_next()

    def abort_stream(self) -> None:
        """End the connection, so that the client sees that its body is incomplete."""
        self.is_busy = False
        self.transport.abort()

    def finish_response(self) -> None:
        """Wait for the next request, or end this side of the connection."""
        self.last_progress = time.monotonic()
        if self.keep_alive:
            return

        self.reader.finish()
        self.unread = b""
        self.is_ending = True
        # resume_writing() is now called once everything is written.
        self.transport.set_write_buffer_limits(0)
        if not self.transport.get_write_buffer_size():
            self.close_output()

    def close_output(self) -> None:
        """Tell the client that nothing follows, and let it finish what it sends.

        Closing the connection at once would reset it if the client still sends, and the client
        could lose the response.
        """
        if self.transport.is_closing():
            return
        try:
            self.transport.write_eof()
        except OSError:  # the client has left
            self.transport.abort()

    def disconnect(self, reason: str) -> None:
        """End the connection at once."""
        self.worker.log.info("client disconnected: %s", reason)
        self.transport.abort()

    # Time limits.

    def check_timeouts(self, now: float) -> None:
        """End the connection, or its request, after too long a silence."""
        self.measure_progress(now)
        silent_seconds = now - self.last_progress
        timeout = self.worker.silence_seconds

        if self.unsent_bytes:
            if silent_seconds > timeout:
                self.disconnect(f"it stopped reading for {timeout:g} s")
        elif self.is_busy:
            return
        elif self.reader.is_finished:
            if silent_seconds > LINGER_SECONDS:
                self.transport.abort()
        elif self.is_idle():
            if silent_seconds > self.keep_alive_seconds():
                self.transport.close()
        elif silent_seconds > timeout:
            message = f"Expected the rest of the request within {timeout:g} s"
            self.reader.reject("408 Request Timeout", message)

    def measure_progress(self, now: float) -> None:
        """Note whether the client has received bytes since the last call."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes or self.is_ending:
            unsent_bytes += unacknowledged_bytes(self.transport)
        if unsent_bytes != self.unsent_bytes:
            self.unsent_bytes = unsent_bytes
            self.last_progress = now

    def is_idle(self) -> bool:
        """Return whether the client has sent nothing of a next request."""
        return self.reader.state is RequestState.READY and not self.unread

    def keep_alive_seconds(self) -> float:
        """Return how long the connection may wait for a request."""
        if not self.worker.alive:
            return LINGER_SECONDS
        return float(self.worker.cfg.keepalive)
