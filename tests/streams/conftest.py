"""Redis servers and consumers, which end with their test."""

import pytest

from consumers import ConsumerProcess, RedisServer


@pytest.fixture
def start_server(tmp_path):
    """Return a function that starts a Redis server."""
    servers = []

    def start(*options):
        directory = tmp_path / f"redis-{len(servers)}"
        directory.mkdir()
        servers.append(RedisServer(directory, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.client.close()
        server.process.kill()
        server.process.wait()


@pytest.fixture
def server(start_server):
    """Return a Redis server."""
    return start_server()


@pytest.fixture
def consume():
    """Return a function that starts a consumer between two streams."""
    consumers = []

    def start(*words, **names):
        consumers.append(ConsumerProcess(*words, **names))
        return consumers[-1]

    yield start
    for consumer in consumers:
        if consumer.process.poll() is None:
            consumer.kill()
        consumer.process.stdout.close()
        consumer.process.stderr.close()
