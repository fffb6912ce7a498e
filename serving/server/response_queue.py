"""The order of responses on one connection."""

from collections import deque
from collections.abc import Callable


class ResponseQueue:
    """Requests of one connection that wait for their response, in the order of their arrival."""

    def __init__(self) -> None:
        self.pending: deque[Callable[[], None]] = deque()  # each call starts one response
        self.in_progress = False  # a thread computes or streams a response

    @property
    def is_busy(self) -> bool:
        """Whether a response is in progress or waits to be started."""
        return self.in_progress or bool(self.pending)

    def append(self, start: Callable[[], None]) -> None:
        """Queue a call that starts a response."""
        self.pending.append(start)

    def start_next(self) -> None:
        """Start the response of the oldest request."""
        start = self.pending.popleft()
        start()

    def clear(self) -> None:
        """Drop the responses that were not started."""
        self.pending.clear()
