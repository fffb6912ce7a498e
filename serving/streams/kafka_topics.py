"""Kafka: a consumer of a group that reads a topic, and the topic that has the answers."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as Record

from serving.batch.stats import BatchError
from serving.streams.kafka_errors import PERMANENT_CODES, PartitionLost, describe, kafka_errors
from serving.streams.messages import Answer, BrokerUnavailable, Message
from serving.streams.urls import StreamUrl, take_number

DEFAULT_GROUP = "ml-model"
DEFAULT_COUNT = 500

READ_SECONDS = 1.0
FLUSH_SECONDS = 5.0
CONNECT_SECONDS = 5.0
WATCH_SECONDS = 2.0
SOCKET_TIMEOUT_MS = 10_000  # after a minute, the client's default, a broker that hangs is no news

# What the client fetches ahead; a message itself is limited by the broker.
MAX_QUEUED_KBYTES = 16_384
MAX_ERROR_KEY_BYTES = 1000
TOO_LARGE = {"error": "The answer is larger than the broker takes"}

TOO_LARGE_CODES = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)

log = logging.getLogger(__name__)


class KafkaTopic:
    """A consumer of one topic, which sends the answers to another.

    Offsets are stored after the broker has all answers, and the client commits what is stored every
    second. Whatever ends the process in between, no message is lost, and some are answered twice.
    """

    kind = "kafka"

    def __init__(self, source: StreamUrl, target: StreamUrl) -> None:
        self.n_taken_over = 0  # the broker itself gives partitions to other consumers
        self.n_deleted = 0

        options = dict(source.options)
        group = options.pop("group", "") or DEFAULT_GROUP
        self.count = take_number(options, "count", DEFAULT_COUNT)
        self._topic = source.name
        self._output = target.name
        if (source.hosts, self._topic) == (target.hosts, self._output):
            raise BatchError("INPUT and OUTPUT are the same topic")

        self._permanent_error = ""
        self._is_down = False
        self._sent: list[Answer] = []  # those of the last call, of which `_n_sent` are sent
        self._n_sent = 0
        self._too_large: list[Answer] = []
        consumer_settings = {
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 1000,
            "queued.max.messages.kbytes": MAX_QUEUED_KBYTES,
        }
        producer_settings = {
            "enable.idempotence": True,  # a retry of the client adds no answer twice
            "message.timeout.ms": 0,  # the client retries until the broker is back
            "linger.ms": 5,
        }
        self._consumer: Any = self._open(Consumer, source, consumer_settings | options)
        self._producer: Any = self._open(Producer, target, producer_settings | target.options)

    def _open(self, client: Any, url: StreamUrl, settings: dict[str, Any]) -> Any:
        silent = logging.getLogger("serving.streams.librdkafka")
        silent.setLevel(logging.CRITICAL)  # a line for each try; the consumer writes one
        defaults = connection_settings(url) | {"error_cb": self._take_error, "logger": silent}
        try:
            return client(defaults | settings)
        except (KafkaException, ValueError, TypeError) as error:
            raise BatchError(f"an option of the address: {describe(error)}") from None

    def _take_error(self, error: KafkaError) -> None:
        """Take an error of a client, which it reports while it is polled."""
        if error.fatal() or error.code() in PERMANENT_CODES:
            self._permanent_error = describe(error)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._is_down = True

    def connect(self) -> None:
        """Check that both topics are there, and join the group. Raises BatchError and others."""
        for client, topic in ((self._consumer, self._topic), (self._producer, self._output)):
            try:
                metadata = self._list_topic(client, topic, CONNECT_SECONDS)
            except BrokerUnavailable:
                client.poll(0)  # reports why, such as a wrong password
                self._raise_permanent_error()
                raise
            error = metadata.topics[topic].error
            if error is not None:
                raise BatchError(f"topic {topic!r}: {describe(error)}")
        self._consumer.subscribe([self._topic])

    def _list_topic(self, client: Any, topic: str, seconds: float) -> Any:
        try:
            with kafka_errors():
                return client.list_topics(topic, timeout=seconds)
        except BrokerUnavailable:
            raise BrokerUnavailable("no broker answers") from None

    def _raise_permanent_error(self) -> None:
        if self._permanent_error:
            raise BatchError(self._permanent_error)

    def read(self) -> list[Message]:
        """Return the next messages of the partitions that this consumer has."""
        with kafka_errors():
            records = self._consumer.consume(self.count, READ_SECONDS)
        messages = [to_message(record) for record in records if record.error() is None]
        for record in records:
            self._check_record(record)
        self._raise_permanent_error()
        if messages:
            self._is_down = False
        elif self._is_down:
            self._list_topic(self._consumer, self._topic, WATCH_SECONDS)
            self._is_down = False
        return messages

    def _check_record(self, record: Record) -> None:
        error = record.error()
        if error is not None and error.code() in PERMANENT_CODES:
            self._permanent_error = describe(error)

    def write(self, answers: list[Answer], model_version: str) -> None:
        """Send the answers, wait until the broker has them, then store the offsets."""
        if self._sent is not answers:
            self._sent = answers
            self._n_sent = 0
            self._too_large = []
        for answer in answers[self._n_sent :]:
            self._send(answer, model_version)
            self._n_sent += 1
        self._flush()

        if self._too_large:
            log.warning("%d answers are too large, and replaced by an error", len(self._too_large))
        while self._too_large:
            self._send(without_content(self._too_large[0]), model_version)
            del self._too_large[0]
        self._flush()
        self._store_offsets(answers)

    def _send(self, answer: Answer, model_version: str) -> None:
        key, headers = answer.message.source
        kept = [header for header in headers if header[0] not in ("message_id", "model_version")]
        added = [("message_id", answer.message.id), ("model_version", model_version)]
        send = partial(
            self._producer.produce,
            self._output,
            answer.to_json(),
            key,
            headers=[*kept, *added],
            on_delivery=partial(self._take_delivery, answer),
        )
        try:
            self._send_when_queued(send)
        except KafkaException as error:
            self._take_delivery(answer, error.args[0])

    def _send_when_queued(self, send: Callable[[], None]) -> None:
        deadline = time.monotonic() + FLUSH_SECONDS
        while True:
            try:
                send()
            except BufferError:  # the client's queue is full; delivered answers leave it
                if time.monotonic() > deadline:
                    self._raise_waiting()
                self._producer.poll(READ_SECONDS)
            else:
                return

    def _take_delivery(
        self, answer: Answer, error: KafkaError | None, _: Record | None = None
    ) -> None:
        if error is None:
            return
        if error.code() in TOO_LARGE_CODES and answer.members is not TOO_LARGE:
            self._too_large.append(answer)
        else:  # also if the error in place of an answer is too large
            self._permanent_error = describe(error)

    def _flush(self) -> None:
        self._producer.flush(FLUSH_SECONDS)
        self._raise_permanent_error()
        if len(self._producer):
            self._raise_waiting()

    def _raise_waiting(self) -> None:
        raise BrokerUnavailable(f"{len(self._producer)} answers wait to be delivered")

    def _store_offsets(self, answers: list[Answer]) -> None:
        """Leave it to the client to commit: a commit of ours would wait for a broker that hangs."""
        offsets: dict[int, int] = {}
        for answer in answers:
            _, partition, offset = answer.message.id.split("/")
            offsets[int(partition)] = int(offset) + 1
        positions = [TopicPartition(self._topic, *position) for position in offsets.items()]
        try:
            with kafka_errors():
                self._consumer.store_offsets(offsets=positions)
        except PartitionLost as error:
            log.warning("%d messages may be answered twice: %s", len(answers), error)

    def lag(self) -> int | None:
        """Return the number of messages after the position in each partition, as last fetched."""
        lag = 0
        with suppress(PartitionLost), kafka_errors():
            for position in self._consumer.position(self._consumer.assignment()):
                _, end = self._consumer.get_watermark_offsets(position, cached=True)
                if position.offset >= 0 and end > 0:
                    lag += max(end - position.offset, 0)
        return lag

    def close(self) -> None:
        """Leave the group, if a broker answers: the client would wait for it without an end."""
        self._list_topic(self._consumer, self._topic, WATCH_SECONDS)
        with suppress(PartitionLost), kafka_errors():
            self._consumer.close()


def without_content(answer: Answer) -> Answer:
    """Return the error in place of an answer that is too large, which its key may be as well."""
    key, _ = answer.message.source
    is_small = key is not None and len(key) <= MAX_ERROR_KEY_BYTES
    message = replace(answer.message, body=b"", source=(key if is_small else None, []))
    return Answer(message, TOO_LARGE)


def connection_settings(url: StreamUrl) -> dict[str, Any]:
    """Return the settings of a client that follow from the address."""
    is_encrypted = url.scheme == "kafka+ssl"
    settings: dict[str, Any] = {
        "bootstrap.servers": url.hosts,
        "client.id": "ml-model",
        "socket.timeout.ms": SOCKET_TIMEOUT_MS,
    }
    if url.username:
        settings["security.protocol"] = "sasl_ssl" if is_encrypted else "sasl_plaintext"
        settings["sasl.mechanisms"] = "PLAIN"
        settings["sasl.username"] = url.username
        settings["sasl.password"] = url.password
    elif is_encrypted:
        settings["security.protocol"] = "ssl"
    return settings


def to_message(record: Any) -> Message:
    """Return a record as a message, which its topic, partition and offset name."""
    record_id = f"{record.topic()}/{record.partition()}/{record.offset()}"
    return Message(record_id, record.value() or b"", (record.key(), record.headers() or []))
