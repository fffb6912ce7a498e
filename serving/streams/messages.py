"""Messages and their answers, whatever the broker."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec


class BrokerUnavailable(Exception):
    """The broker cannot be used for now; the text is one line that gives the reason."""


@dataclass(frozen=True)
class Message:
    """A message of a stream.

    `id` names it in its answer. `reason` is why it cannot be scored, if that is known without its
    content. `source` is what its broker needs to answer and acknowledge it.
    """

    id: str
    body: bytes
    source: Any
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    """The members that a message gains: its prediction, or `error`."""

    message: Message
    members: dict[str, Any] = field(repr=False)

    @property
    def is_error(self) -> bool:
        """Return whether the message was not scored."""
        return "error" in self.members

    def to_json(self) -> bytes:
        """Return the message, if it is a JSON object, with the members that it gains."""
        body = self.message.body.strip()
        if not self.is_error:
            return body[:-1] + b"," + msgspec.json.encode(self.members)[1:]
        try:
            kept = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            kept = {}
        return msgspec.json.encode(kept | self.members)


class Broker(Protocol):
    """The input and the output of a consumer."""

    kind: str
    n_taken_over: int  # messages of consumers that have died
    n_deleted: int  # messages that were deleted from the stream before they were read

    def connect(self) -> None:
        """Connect for the first time. Raises BatchError and BrokerUnavailable."""

    def read(self) -> list[Message]:
        """Return the next messages, after a second at most. Raises as `connect` does."""

    def write(self, answers: list[Answer], model_version: str) -> None:
        """Write answers, then acknowledge their messages. Raises as `connect` does.

        After BrokerUnavailable it may be called again with the same list.
        """

    def lag(self) -> int | None:
        """Return the number of messages without an answer, if the broker knows it."""

    def close(self) -> None:
        """Leave the group. Raises as `connect` does."""
