"""The Kafka cluster that librdkafka brings for tests: another implementation, over TCP."""

import json
import subprocess
import sys
import time

from confluent_kafka import Consumer, Producer

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

    def read(self, topic, n_messages, seconds=60):
        """Return the next messages of a topic, until there are at least as many."""
        settings = {"group.id": f"reader-{time.monotonic()}", "auto.offset.reset": "earliest"}
        consumer = Consumer(self.settings | settings)
        consumer.subscribe([topic])
        messages = []
        deadline = time.monotonic() + seconds
        while len(messages) < n_messages and time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.5):
                assert message.error() is None
                messages.append(message)
        consumer.close()
        return messages

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
