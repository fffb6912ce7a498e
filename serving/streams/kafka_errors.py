"""Errors of Kafka: those that pass, and those that do not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from serving.batch.stats import BatchError
from serving.streams.messages import BrokerUnavailable

# The partition belongs to another consumer by now, which reads these messages again.
LOST_PARTITION_CODES = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._STATE,
)
PERMANENT_CODES = (
    KafkaError._AUTHENTICATION,
    KafkaError._FATAL,
    KafkaError._INVALID_ARG,
    KafkaError._SSL,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


class PartitionLost(Exception):
    """Another consumer has the partition by now."""


@contextmanager
def kafka_errors() -> Iterator[None]:
    """Raise PartitionLost, BrokerUnavailable for what passes, and BatchError for what does not."""
    try:
        yield
    except KafkaException as error:
        kafka_error = error.args[0]
        text = describe(kafka_error)
        if kafka_error.code() in LOST_PARTITION_CODES:
            raise PartitionLost(text) from error
        if kafka_error.fatal() or kafka_error.code() in PERMANENT_CODES:
            raise BatchError(text) from error
        raise BrokerUnavailable(text) from error


def describe(error: Any) -> str:
    """Return the text of an error in one line."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    text = str(error)
    if isinstance(error, KafkaError):
        text = error.str() or error.name()
    return " ".join(text.split())
