"""The pieces in which received data is parsed: a request ends only where a piece ends.

So nothing is parsed before it may be answered, and the bytes of a request are counted from its
first one.
"""

import re

MAX_METHOD_BYTES = 32
LINE_BREAKS = b"\r\n"  # may precede a request
EMPTY_LINE = b"\r\n\r\n"  # ends a head, and a chunked body with its trailers
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class PieceCutter:
    """Finds the next empty line, which may begin in one read of the socket and end in the next."""

    def __init__(self) -> None:
        self.tail = b""  # what precedes the next piece, up to three bytes

    def reset(self) -> None:
        """Forget what precedes the next piece."""
        self.tail = b""

    def end_of_piece(self, data: bytes, start: int, max_bytes: int) -> int:
        """Return the end of the first empty line after `start`, of the data, or of `max_bytes`."""
        end = 0
        if self.tail:
            end = self.end_in_overlap(data, start)
        if not end:
            found = data.find(EMPTY_LINE, start)
            if found >= 0:
                end = found + len(EMPTY_LINE)
        if 0 < end <= start + max_bytes:
            self.tail = b""
            return end

        end = min(len(data), start + max_bytes)
        self.tail = (self.tail + data[max(start, end - 3) : end])[-3:]
        return end

    def end_in_overlap(self, data: bytes, start: int) -> int:
        """Return the end of an empty line that begins before `start`, or 0."""
        overlap = self.tail + data[start : start + 3]
        found = overlap.find(EMPTY_LINE)
        if found < 0:
            return 0
        return start + found + len(EMPTY_LINE) - len(self.tail)


def is_method_incomplete(data: bytes, start: int) -> bool:
    """Return whether the method at `start`, where no space is near, may go on in later data.

    The parser receives the whole method, so that an unknown one is told from what is not HTTP.
    """
    method = data[start : start + MAX_METHOD_BYTES]
    if len(method) == MAX_METHOD_BYTES:
        return False
    return not method or TOKEN.fullmatch(method) is not None


def begins_with_method(data: bytes, start: int) -> bool:
    """Return whether there is the form of a method at `start`."""
    match = TOKEN.match(data, start, start + MAX_METHOD_BYTES - 1)
    return match is not None and data[match.end() : match.end() + 1] == b" "
