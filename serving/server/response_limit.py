"""Memory for responses that clients do not read: a limit for all connections of a worker."""

import time
from typing import Any

MAX_QUEUED_BYTES = 64 * 2**20  # of all responses that wait for their clients


class ResponseLimit:
    """The connections whose responses wait, and what they may hold together."""

    def __init__(self) -> None:
        self.waiting: set[Any] = set()  # connections whose client has not read all

    def add(self, newcomer: Any) -> None:
        """Add a connection; above the limit, disconnect the client that hoards most.

        That is the largest product of bytes and seconds of silence. A client that reads has no
        seconds of silence, and the newcomer is never the one.
        """
        self.waiting.add(newcomer)
        queued = {}
        for connection in tuple(self.waiting):
            n_bytes = connection.transport.get_write_buffer_size()
            if n_bytes:
                queued[connection] = n_bytes
            else:
                self.waiting.discard(connection)

        excess = sum(queued.values()) - MAX_QUEUED_BYTES
        queued.pop(newcomer, None)
        now = time.monotonic()
        while excess > 0 and queued:
            hoarder = max(queued, key=lambda peer: queued[peer] * (now - peer.last_progress))
            excess -= queued.pop(hoarder)
            hoarder.disconnect("too many bytes wait for clients, and this one does not read")

    def discard(self, connection: Any) -> None:
        """Forget a connection."""
        self.waiting.discard(connection)
