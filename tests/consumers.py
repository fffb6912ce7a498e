"""Helpers of the stream tests: consumers and Redis servers as processes of their own."""

import signal
import subprocess
import time

import msgspec
import redis

from batches import BATCH
from helpers import MODEL_FILE, environment, free_port, over_http, wait_until

SETOSA_BODY = b'{"features": [5.1, 3.5, 1.4, 0.2]}'


class RedisServer:
    """Debian's redis-server, which keeps its data when it is killed."""

    def __init__(self, directory, *options):
        self.directory = directory
        self.options = options
        self.port = free_port()
        self.client = redis.Redis(port=int(self.port), socket_timeout=30)
        self.start()

    def start(self):
        storage = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        address = ["--port", self.port, "--bind", "127.0.0.1"]
        self.process = subprocess.Popen(
            ["redis-server", *address, *storage, *self.options],
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def _answers(self):
        try:
            return self.client.ping()
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def url(self, stream, options="", user=""):
        return f"redis://{user}127.0.0.1:{self.port}/0?stream={stream}{options}"

    def cli(self, *words):
        """Run a command by redis-cli, somebody else's client."""
        command = ["redis-cli", "-p", self.port, *words]
        return subprocess.run(command, check=True, capture_output=True).stdout.strip()

    def add(self, stream, bodies):
        """Add messages with one field, and return their ids."""
        with self.client.pipeline(transaction=False) as pipeline:
            for body in bodies:
                pipeline.xadd(stream, {"message": body})
            return [entry_id.decode() for entry_id in pipeline.execute()]

    def answers(self, stream):
        """Return the fields of each answer, by the id of its message; each has one answer."""
        answers = {}
        for _, fields in self.client.xrange(stream):
            message_id = fields.pop(b"message_id").decode()
            assert message_id not in answers
            answers[message_id] = fields
        return answers

    def pending(self, stream, group="ml-model"):
        return self.client.xpending(stream, group)["pending"]

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait()


class ConsumerProcess:
    """batch.py between two streams."""

    def __init__(self, source, target, *words, **names):
        self.metrics_port = free_port()
        names = {"METRICS_PORT": self.metrics_port, "MODEL_PATH": str(MODEL_FILE)} | names
        self.process = subprocess.Popen(
            [*BATCH, source, target, *words],
            env=environment(**names),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, path):
        return over_http(f"127.0.0.1:{self.metrics_port}", "GET", path)

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def stop(self, number=signal.SIGTERM):
        """Send a signal; return the status and the records of the log."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        assert out == ""
        return self.process.returncode, [msgspec.json.decode(line) for line in err.splitlines()]

    def wait(self):
        """Return the status and the lines of a process that ends by itself."""
        out, err = self.process.communicate(timeout=60)
        assert out == ""
        return self.process.returncode, err.splitlines()


def messages_of(records):
    """Return what the records of a log say."""
    return [record["message"] for record in records]


def wait_for_length(server, stream, length):
    """Wait until a stream has as many entries."""
    deadline = time.monotonic() + 60
    while server.client.xlen(stream) < length:
        assert time.monotonic() < deadline, f"{server.client.xlen(stream)} of {length} answers"
        time.sleep(0.05)
