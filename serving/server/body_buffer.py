"""Memory for request bodies: one buffer per connection, and one budget per worker."""

MAX_BUFFERED_BYTES = 32 * 2**20  # of all request bodies that a worker holds


class BufferBudget:
    """The bytes of request bodies that the connections of a worker hold together."""

    def __init__(self) -> None:
        self.used_bytes = 0


class BodyBuffer:
    """The request body of one connection: that is being read, or whose response is computed."""

    def __init__(self, budget: BufferBudget) -> None:
        self.budget = budget
        self.body: bytes | bytearray = b""  # of the request that is being read
        self.held_bytes = 0  # of this body, or of the request that has no response yet

    def append(self, data: bytes) -> None:
        """Add a part to the body that is being read."""
        if not self.body:
            self.body = data  # mostly the whole body
        elif isinstance(self.body, bytes):
            self.body = bytearray(self.body) + data
        else:
            self.body += data
        self.held_bytes += len(data)
        self.budget.used_bytes += len(data)

    def take_body(self) -> bytes | bytearray:
        """Return the body that was read, and begin an empty one; its bytes still count."""
        body = self.body
        self.body = b""
        return body

    def release(self) -> None:
        """Return all bytes to the budget of the worker."""
        self.body = b""
        self.budget.used_bytes -= self.held_bytes
        self.held_bytes = 0
