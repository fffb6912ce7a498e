"""The Kafka cluster that librdkafka brings for tests: another implementation, over TCP."""

import json
import subprocess
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

# It lives as long as a client that asked for it. Topics are created when they are asked for.
PROGRAM = """
from confluent_kafka import Producer
client = Producer({"bootstrap.servers": "any", "test.mock.num.brokers": 1, "log_level": 0})
[broker] = client.list_topics(timeout=10).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
input()
"""


class KafkaCluster:
    """A broker as a process of its own."""

    def __init__(self):
        command = [sys.executable, "-c", PROGRAM]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes)
        self.address = self.process.stdout.readline().strip()
        self.settings = {"bootstrap.servers": self.address, "log_level": 0}
        for topic in ("in", "out"):
            Producer(self.settings).list_topics(topic, timeout=10)

    def url(self, topic, options=""):
        return f"kafka://{self.address}/{topic}{options}"

    def add(self, topic, records):
        """Send pairs of a key and a value, and wait until the broker has them."""
        producer = Producer(self.settings)
        for key, value in records:
            producer.produce(topic, value, key, headers=[("trace", b"abc")])
        assert producer.flush(30) == 0

    def _open_reader(self, topic):
        """Return a consumer without a group, and the partitions of a topic from their starts."""
        reader = Consumer(self.settings | {"group.id": "none", "enable.auto.commit": False})
        partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
        return reader, [TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions]

    def read(self, topic, n_messages, seconds=60):
        """Return the messages of a topic, as soon as there are at least as many."""
        reader, partitions = self._open_reader(topic)
        reader.assign(partitions)
        messages = []
        deadline = time.monotonic() + seconds
        while len(messages) < n_messages and time.monotonic() < deadline:
            for message in reader.consume(1000, 0.2):
                assert message.error() is None
                messages.append(message)
        reader.close()
        return messages

    def wait_for_length(self, topic, n_messages):
        """Return the number of messages of a topic, as soon as it is at least `n_messages`."""
        reader, partitions = self._open_reader(topic)
        deadline = time.monotonic() + 60
        length = 0
        while length < n_messages:
            assert time.monotonic() < deadline, f"{length} of {n_messages} messages"
            ends = [reader.get_watermark_offsets(partition)[1] for partition in partitions]
            length = sum(ends)
        reader.close()
        return length

    def stop(self):
        self.process.kill()
        self.process.communicate()


def message_id(message):
    """Return the id of the message that an answer names."""
    return dict(message.headers())["message_id"].decode()


def numbered(n_messages):
    """Return records with a number as key and as member."""
    row = {"features": [5.1, 3.5, 1.4, 0.2]}
    return [(str(n), json.dumps(row | {"n": n})) for n in range(n_messages)]
