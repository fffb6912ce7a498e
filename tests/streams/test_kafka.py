"""Kafka: answers, offsets, kill -9 and a broker that is away."""

import json
import signal
import time

import pytest

from batches import MODEL
from consumers import SETOSA_BODY, messages_of
from helpers import VERSION, free_port, wait_until
from kafka_cluster import KafkaCluster, message_id, numbered
from serving.batch.stats import BatchError
from serving.streams.command import open_broker
from serving.streams.kafka_topics import TOO_LARGE
from serving.streams.urls import parse_stream_url


@pytest.fixture
def cluster():
    """Return a Kafka cluster."""
    cluster = KafkaCluster()
    yield cluster
    cluster.stop()


def test_answers_keep_key_and_headers(cluster, consume):
    """An answer has the key and the headers of its message, which it names; lag and rows count."""
    body = '{"features": [5.1, 3.5, 1.4, 0.2]}'
    cluster.add("in", [("a", body), ("b", "nope"), ("c", None), (None, body)])
    consumer = consume(cluster.url("in"), cluster.url("out"))
    answers = {message.key(): message for message in cluster.read("out", 4)}
    assert answers.keys() == {b"a", b"b", b"c", None}

    answer = answers[b"a"]
    assert answer.value().decode() == f'{body[:-1]},"prediction":0,"label":"setosa"}}'
    headers = dict(answer.headers())
    topic, partition, offset = headers.pop("message_id").decode().split("/")
    assert (topic, partition.isdigit(), offset) == ("in", True, "0")
    assert headers == {"trace": b"abc", "model_version": VERSION.encode()}
    error = {"error": "JSON is malformed: invalid character (byte 4)"}
    assert json.loads(answers[b"b"].value()) == error
    assert json.loads(answers[b"c"].value()) == {"error": "The body is empty"}

    wait_until(lambda: b'stream_lag{broker="kafka"} 0.0\n' in consumer.call("/metrics").body)
    metrics = consumer.call("/metrics").body
    assert b'stream_messages_total{outcome="scored"} 2.0\n' in metrics
    assert b'stream_messages_total{outcome="rejected"} 2.0\n' in metrics
    assert b'rows_total{model_version="%b"} 2.0\n' % VERSION.encode() in metrics
    status, records = consumer.stop()
    assert status == 0
    assert messages_of(records)[-1] == "stopped after 4 messages, of which 2 with an error"


def test_killed_consumers_lose_nothing(cluster, consume):
    """After kill -9 every message has an answer, and answers that are repeated name it."""
    n_messages = 6000
    cluster.add("in", numbered(n_messages))
    source = cluster.url("in", "?count=20&session.timeout.ms=6000")
    for n_expected in (200, 600):
        consumers = [consume(source, cluster.url("out")) for _ in range(2)]
        cluster.wait_for_length("out", n_expected)
        for consumer in consumers:
            consumer.kill()
    assert cluster.wait_for_length("out", 1) < n_messages

    last = consume(source, cluster.url("out"))
    named = {}
    deadline = time.monotonic() + 90
    while len(named) < n_messages and time.monotonic() < deadline:
        for answer in cluster.read("out", cluster.wait_for_length("out", 1)):
            named[message_id(answer)] = json.loads(answer.value())["n"]
    assert last.stop()[0] == 0
    assert sorted(named.values()) == list(range(n_messages))


def test_offsets_are_committed(cluster, consume):
    """A consumer that was stopped leaves nothing for the next one but what came since."""
    cluster.add("in", numbered(300))
    # The cluster of librdkafka waits for members that have left, as if they were dead.
    source = cluster.url("in", "?session.timeout.ms=6000")
    consumer = consume(source, cluster.url("out"))
    assert len(cluster.read("out", 300)) == 300
    assert consumer.stop()[0] == 0

    cluster.add("in", [("later", '{"features": [6.3, 3.3, 6.0, 2.5]}')])
    consumer = consume(source, cluster.url("out"))
    answers = cluster.read("out", 301)
    assert len(answers) == 301
    assert [answer.value() for answer in answers if answer.key() == b"later"] == [
        b'{"features": [6.3, 3.3, 6.0, 2.5],"prediction":2,"label":"virginica"}'
    ]
    _, records = consumer.stop()
    assert messages_of(records)[-1] == "stopped after 1 messages, of which 0 with an error"


@pytest.mark.parametrize("options", ["", "?queue.buffering.max.messages=10"])
def test_frozen_broker_is_waited_for(cluster, consume, options):
    """While the broker takes no answers, the consumer waits, says so once, and then goes on."""
    n_messages = 10_000
    cluster.add("in", numbered(n_messages))
    consumer = consume(cluster.url("in", "?count=20"), cluster.url("out", options))
    assert cluster.wait_for_length("out", 100) < n_messages

    cluster.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: b"stream_broker_up 0.0\n" in consumer.call("/metrics").body)
        assert b'"alive"' in consumer.call("/healthz").body
    finally:
        cluster.process.send_signal(signal.SIGCONT)
    answers = cluster.read("out", n_messages)
    assert len({message_id(answer) for answer in answers}) == n_messages
    status, records = consumer.stop()
    assert status == 0
    _, away, back, _ = messages_of(records)
    assert away.endswith(" answers wait to be delivered")
    assert back.startswith("the broker is back after ")


def test_frozen_input_is_waited_for(cluster, consume):
    """A broker that hangs when its answers are delivered elsewhere is noticed; nothing is lost."""
    n_messages = 10_000
    cluster.add("in", numbered(n_messages))
    quick = "&socket.timeout.ms=1000&api.version.request.timeout.ms=1000"
    output = KafkaCluster()
    try:
        consumer = consume(cluster.url("in", f"?count=20{quick}"), output.url("out"))
        assert output.wait_for_length("out", 100) < n_messages
        cluster.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: b"stream_broker_up 0.0\n" in consumer.call("/metrics").body)
        assert b'"alive"' in consumer.call("/healthz").body

        cluster.process.send_signal(signal.SIGCONT)
        answers = output.read("out", n_messages)
        assert len({message_id(answer) for answer in answers}) == n_messages
    finally:
        output.stop()


def test_frozen_broker_does_not_hold_up_the_end(cluster, consume):
    """SIGTERM ends a consumer that waits for messages of a broker that hangs."""
    cluster.add("in", numbered(10))
    consumer = consume(cluster.url("in"), cluster.url("out"))
    assert len(cluster.read("out", 10)) == 10
    cluster.process.send_signal(signal.SIGSTOP)
    status, records = consumer.stop()
    assert status == 0
    assert messages_of(records)[1:] == [
        "could not leave the group: no broker answers",
        "stopped after 10 messages, of which 0 with an error",
    ]


def test_lost_broker_is_one_line(cluster, consume):
    """A broker that goes away for good is one line of the log, and SIGTERM still ends."""
    cluster.add("in", numbered(10))
    consumer = consume(cluster.url("in"), cluster.url("out"))
    assert len(cluster.read("out", 10)) == 10
    cluster.stop()
    wait_until(lambda: b"stream_broker_up 0.0\n" in consumer.call("/metrics").body)
    status, records = consumer.stop()
    assert status == 0
    assert messages_of(records)[1:] == [
        "the broker is away, trying again: no broker answers",
        "stopped after 10 messages, of which 0 with an error",
    ]


def test_large_answer_is_an_error(cluster, consume):
    """An answer that the broker would not take is replaced by an error, and blocks nothing."""
    large = json.dumps({"features": [5.1, 3.5, 1.4, 0.2], "text": "x" * 3000})
    cluster.add("in", [("large", large), ("x" * 3000, SETOSA_BODY), *numbered(5)])
    consumer = consume(cluster.url("in"), cluster.url("out", "?message.max.bytes=2000"))
    answers = {message.key(): message for message in cluster.read("out", 7)}
    assert json.loads(answers[b"large"].value()) == TOO_LARGE
    assert json.loads(answers[None].value()) == TOO_LARGE
    assert message_id(answers[None]).startswith("in/")
    assert len(answers) == 7
    status, records = consumer.stop()
    assert status == 0
    assert "2 answers are too large, and replaced by an error" in messages_of(records)


def test_error_that_is_too_large_ends_the_program(cluster, consume):
    """Where not even the error can be sent, no offset goes past its message."""
    cluster.add("in", [("x" * 990, SETOSA_BODY)])
    source = cluster.url("in", "?session.timeout.ms=6000")
    for _ in range(2):
        consumer = consume(source, cluster.url("out", "?message.max.bytes=1000"))
        status, lines = consumer.wait()
        assert status == 1
        assert lines[-1].endswith("Unable to produce message: Broker: Message size too large")


def test_unreachable_broker_is_one_line(consume):
    """A broker that is not there at the start ends the program."""
    address = f"127.0.0.1:{free_port()}"
    consumer = consume(f"kafka://me:s3cret@{address}/in", f"kafka://{address}/out")
    assert consumer.wait() == (1, [f"kafka://{address}/in: no broker answers"])


def test_unknown_option_is_named():
    """An option that librdkafka does not know is named."""
    source = parse_stream_url("kafka://localhost:1/in?unknown=x")
    with pytest.raises(BatchError, match='No such configuration property: "unknown"'):
        open_broker(source, parse_stream_url("kafka://localhost:1/out"), MODEL)
    with pytest.raises(BatchError, match="INPUT and OUTPUT are the same topic"):
        open_broker(parse_stream_url("kafka://h:1/t"), parse_stream_url("kafka://h:1/t"), MODEL)
