"""Redis Streams: a consumer of a group, and the stream that has the answers."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.batch.stats import BatchError
from serving.model.errors import one_line
from serving.model.signature import Signature
from serving.streams.messages import Answer, BrokerUnavailable, Message
from serving.streams.redis_entries import EntryDecoder, answer_fields
from serving.streams.urls import StreamUrl, take_number

DEFAULT_GROUP = "ml-model"
DEFAULT_COUNT = 500
DEFAULT_CLAIM_SECONDS = 60
# An entry with more deliveries has ended as many processes, and is answered with an error.
MAX_DELIVERIES = 5
GAVE_UP = f"Gave up after {MAX_DELIVERIES} deliveries"

READ_SECONDS = 1.0
CONNECT_SECONDS = 5.0
REPLY_SECONDS = 10.0
CLAIMED_ENTRIES = 100  # whose owner one call changes

TRANSIENT_ERRORS = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,  # a replica, until the failover is known
    redis.exceptions.OutOfMemoryError,
)
TRANSIENT_CODES = ("NOGROUP", "UNBLOCKED", "MISCONF", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS")

# Entries that are no longer pending have been answered: by this consumer before it lost the reply,
# or by one that has taken them over. An error of XADD ends the script before XACK.
ANSWER_SCRIPT = """
local group, max_length = ARGV[1], ARGV[2]
local i = 3
while i <= #ARGV do
    local id, last = ARGV[i], i + 1 + tonumber(ARGV[i + 1])
    if #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1 then
        if max_length == '0' then
            redis.call('XADD', KEYS[2], '*', unpack(ARGV, i + 2, last))
        else
            redis.call('XADD', KEYS[2], 'MAXLEN', '~', max_length, '*', unpack(ARGV, i + 2, last))
        end
        redis.call('XACK', KEYS[1], group, id)
    end
    i = last + 1
end
"""


class RedisStream:
    """A consumer of one stream, which adds the answers to another.

    On one server an answer is added and its message acknowledged in one script: both happen, or
    neither, and once. If the answers go to another server, they are added before.
    """

    kind = "redis"

    def __init__(self, source: StreamUrl, target: StreamUrl, signature: Signature) -> None:
        self.n_taken_over = 0
        self.n_deleted = 0

        options = dict(source.options)
        self.group = options.pop("group", "") or DEFAULT_GROUP
        # The same after a restart in a container, so that it goes on with its own entries at once.
        self.consumer = options.pop("consumer", "") or f"{socket.gethostname()}-{os.getpid()}"
        self.count = take_number(options, "count", DEFAULT_COUNT)
        self.claim_seconds = take_number(options, "claim", DEFAULT_CLAIM_SECONDS)
        self._decoder = EntryDecoder(signature, options.pop("field", ""))
        self._stream = source.name
        self._client = open_client(source, options)

        output_options = dict(target.options)
        self.max_length = take_number(output_options, "maxlen", 0)
        self._output = target.name
        self._output_client = open_client(target, output_options)
        self._is_one_server = server_of(source) == server_of(target)
        if self._is_one_server and self._stream == self._output:
            raise BatchError("INPUT and OUTPUT are the same stream")

        self._is_prepared = False
        self._has_own_entries = True  # perhaps, from before a restart or a lost reply
        self._next_claim_at = 0.0
        self._answered: list[Answer] = []  # those that are written but not acknowledged
        self._answer = self._client.register_script(ANSWER_SCRIPT)

    def connect(self) -> None:
        """Connect, and create the group unless it is there. Raises BatchError and others."""
        with redis_errors():
            self._prepare()

    def _prepare(self) -> None:
        if self._is_prepared:
            return
        kind = self._output_client.type(self._output)
        if kind not in (b"stream", b"none"):
            raise BatchError(f"{self._output!r} is no stream but a {kind.decode()}")
        try:
            # From the first entry, so that none is left out that was added before the group.
            self._client.xgroup_create(self._stream, self.group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._is_prepared = True
        self._has_own_entries = True

    def read(self) -> list[Message]:
        """Return own entries that were not acknowledged, one at a time, or else new entries."""
        with self._errors():
            self._prepare()
            if time.monotonic() >= self._next_claim_at:
                self._take_over()
            if self._has_own_entries:
                messages = self._read_own()
                if messages:
                    return messages
                self._has_own_entries = False

            milliseconds = int(READ_SECONDS * 1000)
            entries = self._read_group(">", count=self.count, block=milliseconds)
            return [self._decoder.decode(entry_id, fields) for entry_id, fields in entries]

    def _read_group(self, last_id: str, **limits: int) -> list[tuple[str, Mapping[bytes, bytes]]]:
        streams: Any = {self._stream: last_id}
        reply: Any = self._client.xreadgroup(self.group, self.consumer, streams, **limits)
        if not reply:
            return []
        [(_, entries)] = reply
        return [(entry_id.decode(), fields) for entry_id, fields in entries]

    def _read_own(self) -> list[Message]:
        # One at a time: an entry that ends the process takes no other one with it.
        entries = self._read_group("0", count=1)
        while entries:
            [(entry_id, fields)] = entries
            if fields:
                return [self._limit_deliveries(self._decoder.decode(entry_id, fields))]
            self._client.xack(self._stream, self.group, entry_id)
            self.n_deleted += 1
            entries = self._read_group("0", count=1)
        return []

    def _limit_deliveries(self, message: Message) -> Message:
        pending = self._client.xpending_range(self._stream, self.group, message.id, message.id, 1)
        if pending and pending[0]["times_delivered"] > MAX_DELIVERIES:
            return Message(message.id, message.body, message.source, GAVE_UP)
        return message

    def _take_over(self) -> None:
        """Become the owner of entries whose consumer has not acknowledged them for some time."""
        # Not XAUTOCLAIM: with JUSTID, which counts no delivery, redis-py hides its cursor.
        idle_milliseconds = self.claim_seconds * 1000
        group = (self._stream, self.group)
        n_claimed = CLAIMED_ENTRIES
        while n_claimed == CLAIMED_ENTRIES:
            idle: Any = self._client.xpending_range(
                *group, "-", "+", CLAIMED_ENTRIES, idle=idle_milliseconds
            )
            ids = [entry["message_id"] for entry in idle]
            if not ids:
                break
            claimed: Any = self._client.xclaim(
                *group, self.consumer, idle_milliseconds, ids, justid=True
            )
            n_claimed = len(claimed)
            self.n_taken_over += n_claimed
            self.n_deleted += sum(entry_id is None for entry_id in claimed)
            self._has_own_entries |= bool(claimed)
        self._next_claim_at = time.monotonic() + self.claim_seconds / 2

    def write(self, answers: list[Answer], model_version: str) -> None:
        """Add the answers and acknowledge their messages."""
        entries = [answer_fields(answer, model_version) for answer in answers]
        with self._errors():
            self._prepare()
            if self._is_one_server:
                self._answer_in_script(answers, entries)
                return

            if self._answered is not answers:
                self._add_to_other_server(entries)
                self._answered = answers
            ids = [answer.message.id for answer in answers]
            self._client.xack(self._stream, self.group, *ids)

    def _answer_in_script(self, answers: list[Answer], entries: list[dict[bytes, bytes]]) -> None:
        words: list[Any] = [self.group, self.max_length]
        for answer, fields in zip(answers, entries, strict=True):
            words += [answer.message.id, 2 * len(fields)]
            for name, value in fields.items():
                words += [name, value]
        self._answer(keys=[self._stream, self._output], args=words)

    def _add_to_other_server(self, entries: list[dict[bytes, bytes]]) -> None:
        with self._output_client.pipeline(transaction=True) as pipeline:
            for fields in entries:
                pipeline.xadd(
                    self._output, dict(fields), maxlen=self.max_length or None, approximate=True
                )
            pipeline.execute()

    def lag(self) -> int | None:
        """Return the number of entries that were not read, and of those that are not answered."""
        with self._errors():
            groups: Any = self._client.xinfo_groups(self._stream)
        for group in groups:
            # Redis does not know its lag after entries were deleted.
            if group["name"].decode() == self.group and group.get("lag") is not None:
                return int(group["lag"]) + int(group["pending"])
        return None

    def close(self) -> None:
        """Leave the group, unless entries remain: with the consumer they would be lost."""
        with redis_errors():
            pending = self._client.xpending_range(
                self._stream, self.group, "-", "+", 1, consumername=self.consumer
            )
            if not pending:
                self._client.xgroup_delconsumer(self._stream, self.group, self.consumer)
        self._client.close()
        self._output_client.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with redis_errors():
                yield
        except BrokerUnavailable:
            self._is_prepared = False
            raise


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise BrokerUnavailable for what passes, and BatchError for what does not."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise BatchError(one_line(error)) from error
    except TRANSIENT_ERRORS as error:
        raise BrokerUnavailable(one_line(error)) from error
    except redis.RedisError as error:
        text = one_line(error)
        if any(code in text for code in TRANSIENT_CODES):
            raise BrokerUnavailable(text) from error
        raise BatchError(text) from error


def server_of(url: StreamUrl) -> tuple[str, ...]:
    """Return what names the server, the database there, and the user."""
    return url.scheme, url.hosts, url.path.strip("/") or "0", url.username


def open_client(url: StreamUrl, options: dict[str, str]) -> Any:
    """Return a client, which connects when it is first used. Raises BatchError."""
    credentials = ""
    if url.username or url.password:
        credentials = f"{quote(url.username, safe='')}:{quote(url.password, safe='')}@"
    address = f"{url.scheme}://{credentials}{url.hosts}{url.path}"
    try:
        client = redis.Redis.from_url(
            f"{address}?{urlencode(options)}",
            protocol=2,
            # Retries are the consumer's: a reply that was lost has entries which are pending then.
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=REPLY_SECONDS,
            socket_keepalive=True,
        )
        client.connection_pool.make_connection()
    except (ValueError, TypeError) as error:
        raise BatchError(f"an option of the address: {one_line(error)}") from None
    return client
