"""Redis Streams under kill -9 and restarts: no message is lost, and none is answered twice."""

import random
import signal
import time

import msgspec
import pytest

from batches import MODEL
from consumers import SETOSA_BODY, messages_of, wait_for_length
from helpers import wait_until
from serving.streams.messages import Answer
from serving.streams.redis_streams import RedisStream
from serving.streams.urls import parse_stream_url

N_MESSAGES = 3000

BODY = '{{"features": [5.1, 3.5, 1.4, 0.2], "n": {}}}'


def numbered_bodies(n=N_MESSAGES):
    return [BODY.format(i) for i in range(n)]


def assert_each_answered(server, ids, stream="out"):
    """Assert that each message has one answer, which is its own."""
    answers = server.answers(stream)
    assert answers.keys() == set(ids)
    for number, message_id in enumerate(ids):
        record = msgspec.json.decode(answers[message_id][b"message"])
        assert (record["n"], record["prediction"], record["label"]) == (number, 0, "setosa")


def test_killed_consumers_lose_nothing(server, consume):
    """Two consumers are killed again and again in the middle of their messages."""
    n_messages = 3 * N_MESSAGES
    ids = server.add("in", numbered_bodies(n_messages))
    source = server.url("in", "&claim=1&count=20")
    target = server.url("out")
    rng = random.Random(0)

    n_kills = 0
    while server.client.xlen("out") < n_messages and n_kills < 6:
        consumers = [consume(source, target), consume(source, target)]
        seen = server.client.xlen("out")
        wait_for_length(server, "out", min(seen + rng.randrange(50, 300), n_messages))
        for consumer in consumers:
            consumer.kill()
        n_kills += 2
    assert n_kills == 6
    assert server.client.xlen("out") < n_messages

    last = consume(source, target)
    wait_for_length(server, "out", n_messages)
    time.sleep(1.5)  # entries of dead consumers, if any were answered already
    status, _ = last.stop()
    assert status == 0
    assert server.pending("in") == 0
    assert_each_answered(server, ids)


def test_killed_server_loses_nothing(server, consume):
    """The server is killed, and comes back; the consumer waits and says so in two lines."""
    ids = server.add("in", numbered_bodies())
    consumer = consume(server.url("in", "&count=20"), server.url("out"))
    wait_for_length(server, "out", 100)
    server.stop(signal.SIGKILL)
    wait_until(lambda: b"stream_broker_up 0.0\n" in consumer.call("/metrics").body)
    assert b'"alive"' in consumer.call("/healthz").body
    server.start()
    assert server.client.xlen("out") < N_MESSAGES

    wait_for_length(server, "out", N_MESSAGES)
    wait_until(lambda: b"stream_broker_up 1.0\n" in consumer.call("/metrics").body)
    status, records = consumer.stop()
    assert status == 0
    begin, away, back, end = messages_of(records)
    assert begin.startswith("reading redis://127.0.0.1:")
    assert away.startswith("the broker is away, trying again: ")
    assert back.startswith("the broker is back after ")
    assert end == f"stopped after {N_MESSAGES} messages, of which 0 with an error"
    assert server.pending("in") == 0
    assert_each_answered(server, ids)


def test_other_server_gets_named_duplicates(start_server, consume):
    """With the answers on another server a kill can repeat some, whose message they name."""
    server = start_server()
    other = start_server()
    ids = server.add("in", numbered_bodies())
    source = server.url("in", "&claim=1&count=20")
    target = other.url("out")
    for length in (200, 400):
        consumer = consume(source, target)
        wait_for_length(other, "out", length)
        consumer.kill()
    assert other.client.xlen("out") < N_MESSAGES

    last = consume(source, target)
    wait_for_length(other, "out", N_MESSAGES)
    named = set()
    deadline = time.monotonic() + 30
    while named != set(ids) and time.monotonic() < deadline:
        named = {fields[b"message_id"].decode() for _, fields in other.client.xrange("out")}
    assert named == set(ids)
    assert last.stop()[0] == 0
    assert server.pending("in") == 0


def test_written_but_unacknowledged_answer_is_repeated(start_server, consume):
    """On two servers the answer comes first: what ends the process after it repeats the answer."""
    server = start_server()
    other = start_server()
    [message_id] = server.add("in", [SETOSA_BODY])
    # No XACK is possible, so that the process is killed between both.
    server.client.acl_setuser("default", enabled=True, commands=["-xack"])
    target = other.url("out")
    consumer = consume(server.url("in"), target)
    wait_for_length(other, "out", 1)
    status, lines = consumer.wait()
    assert status == 1
    assert lines[-1].endswith("this user has no permissions to run the 'xack' command")

    server.client.acl_setuser("default", enabled=True, commands=["+@all"])
    consumer = consume(server.url("in", "&claim=1"), target)
    wait_for_length(other, "out", 2)
    assert consumer.stop()[0] == 0
    named = [fields[b"message_id"].decode() for _, fields in other.client.xrange("out")]
    assert named == [message_id] * 2


def test_dead_consumer_is_replaced(server, consume):
    """Entries that another consumer has read and not acknowledged are answered after `claim`."""
    ids = server.add("in", [SETOSA_BODY] * 3)
    server.cli("XGROUP", "CREATE", "in", "ml-model", "0")
    server.cli("XREADGROUP", "GROUP", "ml-model", "dead", "STREAMS", "in", ">")
    consumer = consume(server.url("in", "&claim=1"), server.url("out"))
    wait_for_length(server, "out", 3)
    assert b"stream_taken_over_total 3.0\n" in consumer.call("/metrics").body
    assert server.answers("out").keys() == set(ids)
    assert server.pending("in") == 0


@pytest.fixture
def open_stream(server):
    """Return a function that connects to the streams in this process, as a consumer of a name."""
    opened = []

    def connect(name):
        source = parse_stream_url(server.url("in", f"&claim=1&consumer={name}"))
        stream = RedisStream(source, parse_stream_url(server.url("out")), MODEL.signature)
        stream.connect()
        opened.append(stream)
        return stream

    yield connect
    for stream in opened:
        stream.close()


def answer_all(messages):
    return [Answer(message, {"prediction": 0}) for message in messages]


def test_slow_consumer_answers_nothing_twice(server, open_stream):
    """What was taken over from a consumer that was slow, not dead, is answered once."""
    ids = server.add("in", [SETOSA_BODY] * 3)
    slow = open_stream("slow")
    slow_answers = answer_all(slow.read())
    assert len(slow_answers) == 3
    time.sleep(1.2)

    other = open_stream("other")
    other.write(answer_all(other.read()), "v")  # one at a time
    assert other.n_taken_over == 3
    slow.write(slow_answers, "v")
    assert server.answers("out").keys() == set(ids)
    other.write(answer_all(other.read()), "v")
    assert server.answers("out").keys() == set(ids)
    assert server.pending("in") == 0


def test_repeated_write_answers_once(server, open_stream):
    """A write whose reply was lost is done again, and adds nothing."""
    ids = server.add("in", [SETOSA_BODY] * 3)
    stream = open_stream("one")
    answers = answer_all(stream.read())
    stream.write(answers, "v")
    stream.write(answers, "v")
    assert server.answers("out").keys() == set(ids)


def test_consumer_with_entries_stays_in_group(server, open_stream):
    """A consumer that ends with entries of its own is kept: they would be lost with it."""
    server.add("in", [SETOSA_BODY] * 3)
    stream = open_stream("one")
    assert len(stream.read()) == 3
    stream.close()
    assert server.pending("in") == 3
    again = open_stream("one")
    again.write(answer_all(again.read()), "v")
    assert server.client.xlen("out") == 1


def test_own_entries_come_first(server, consume):
    """With the name it had, a consumer goes on at once with what it had read."""
    ids = server.add("in", [SETOSA_BODY] * 3)
    server.cli("XGROUP", "CREATE", "in", "g", "0")
    server.cli("XREADGROUP", "GROUP", "g", "me", "COUNT", "2", "STREAMS", "in", ">")
    consumer = consume(server.url("in", "&group=g&consumer=me"), server.url("out"))
    wait_for_length(server, "out", 3)
    assert [fields[b"message_id"].decode() for _, fields in server.client.xrange("out")] == ids
    assert b"stream_taken_over_total 0.0\n" in consumer.call("/metrics").body


def test_message_that_ends_processes_is_given_up(server, consume):
    """A message that was delivered five times in vain is answered with an error."""
    first, second = server.add("in", [SETOSA_BODY] * 2)
    server.cli("XGROUP", "CREATE", "in", "ml-model", "0")
    server.cli("XREADGROUP", "GROUP", "ml-model", "me", "COUNT", "1", "STREAMS", "in", ">")
    for _ in range(4):
        server.cli("XREADGROUP", "GROUP", "ml-model", "me", "COUNT", "1", "STREAMS", "in", "0")
    consume(server.url("in", "&consumer=me"), server.url("out"))
    wait_for_length(server, "out", 2)
    answers = server.answers("out")
    given_up = msgspec.json.decode(answers[first][b"message"])
    assert given_up == {
        "features": [5.1, 3.5, 1.4, 0.2],
        "error": "Gave up after 5 deliveries",
    }
    assert b'"prediction":0' in answers[second][b"message"]


def test_deleted_entries_end_nothing(server, consume):
    """Entries that were read, and deleted before they were answered, are counted."""
    deleted, kept = server.add("in", [SETOSA_BODY] * 2)
    server.cli("XGROUP", "CREATE", "in", "ml-model", "0")
    server.cli("XREADGROUP", "GROUP", "ml-model", "me", "STREAMS", "in", ">")
    server.cli("XDEL", "in", deleted)
    consumer = consume(server.url("in", "&consumer=me"), server.url("out"))
    wait_for_length(server, "out", 1)
    assert server.answers("out").keys() == {kept}
    assert b"stream_deleted_total 1.0\n" in consumer.call("/metrics").body
    assert server.pending("in") == 0


def test_lost_group_is_created_again(server, consume):
    """A server that has lost its data gets the group again, and its messages are answered."""
    server.add("in", [SETOSA_BODY])
    consumer = consume(server.url("in"), server.url("out"))
    wait_for_length(server, "out", 1)
    server.client.flushall()
    ids = server.add("in", [SETOSA_BODY] * 2)
    wait_for_length(server, "out", 2)
    assert server.answers("out").keys() == set(ids)
    assert consumer.stop()[0] == 0
