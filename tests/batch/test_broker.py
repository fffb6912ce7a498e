"""batch.py as the consumer of a message broker."""

import socket
import subprocess

import msgspec
import pytest

from batches import BATCH, json_line
from helpers import free_port, wait_until


class Redis:
    """A connection to Redis by its own client, redis-cli, with replies in JSON."""

    def __init__(self, port):
        command = ["redis-cli", "-p", str(port), "--json"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *words):
        quoted = " ".join(
            '"' + str(word).replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words
        )
        self.process.stdin.write(quoted + "\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline())

    def close(self):
        self.process.communicate()


@pytest.fixture
def broker(tmp_path):
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
    yield port
    server.terminate()
    server.wait()


def consume(port, enough):
    """Score the group's messages in a process; write and acknowledge each in one transaction.

    Messages that were delivered and never acknowledged come first, then new ones, until `enough()`.
    """
    redis = Redis(port)
    process = subprocess.Popen(
        [*BATCH, "-", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    last_id = "0"
    while not enough(process):
        group = ("GROUP", "scorers", "one")
        limits = ("COUNT", "50", "BLOCK", "50")
        reply = redis("XREADGROUP", *group, *limits, "STREAMS", "in", last_id)
        # Some versions of redis-cli print a map as an object, others as a list of pairs.
        messages = dict(reply or []).get("in", [])
        if not messages:
            last_id = ">"
            continue
        for key, (_, row) in messages:
            process.stdin.write((row[:-1] + f',"key":"{key}"}}\n').encode())
        process.stdin.flush()
        for key, _ in messages:
            answer = process.stdout.readline().decode().rstrip("\n")
            if not answer:  # killed: messages without acknowledgement come again
                process.communicate()
                return redis.close()
            assert msgspec.json.decode(answer)["key"] == key
            redis("MULTI")
            # Under the key of its message: Redis rejects a key that exists already.
            redis("XADD", "out", key, "row", answer)
            redis("XACK", "in", "scorers", key)
            redis("EXEC")
        if last_id != ">":
            last_id = messages[-1][0]
    process.communicate()
    return redis.close()


def test_broker_restart_loses_nothing(broker):
    """No message is lost or scored twice if the consumer is restarted."""
    redis = Redis(broker)
    rows = 1000
    redis("XGROUP", "CREATE", "in", "scorers", "0", "MKSTREAM")
    keys = [redis("XADD", "in", "*", "row", json_line(n=i)) for i in range(rows)]

    def kill_at_300(process):
        if redis("XLEN", "out") > 300:
            process.kill()  # the lines read next are never scored
        return False

    consume(broker, kill_at_300)
    [pending, *_] = redis("XPENDING", "in", "scorers")
    assert pending > 0 and redis("XLEN", "out") < rows
    consume(broker, lambda _: redis("XLEN", "out") == rows)
    assert redis("XPENDING", "in", "scorers")[0] == 0
    answers = redis("XRANGE", "out", "-", "+")
    assert [key for key, _ in answers] == keys
    decoded = [msgspec.json.decode(fields[1]) for _, fields in answers]
    assert [(record["n"], record["key"], record["prediction"]) for record in decoded] == [
        (i, key, 0) for i, key in enumerate(keys)
    ]
    redis.close()
