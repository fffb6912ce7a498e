"""docs/batch.md about brokers, compared with the code and the manifests."""

import re

import yaml

from consumers import SETOSA_BODY, wait_for_length
from documentation import flat_text, section
from helpers import ROOT, wait_until
from serving.streams import consumer, kafka_topics, redis_streams

BROKERS = section("batch.md", "Brokers")

MANIFESTS = ROOT / "k8s/components/stream"


def test_options_have_documented_defaults():
    """The table of options names each default."""
    redis_cell, kafka_cell = re.search(
        r"^\| Options of INPUT \| (.*) \| (.*) \|$", BROKERS, re.M
    ).groups()
    for cell, module in ((redis_cell, redis_streams), (kafka_cell, kafka_topics)):
        assert f"`group` (`{module.DEFAULT_GROUP}`)" in cell
        assert f"`count` ({module.DEFAULT_COUNT})" in cell
    assert f"`claim` ({redis_streams.DEFAULT_CLAIM_SECONDS})" in redis_cell
    assert redis_streams.MAX_DELIVERIES == 5
    assert "after five deliveries" in flat_text("batch.md")
    assert consumer.HANGING_SECONDS == 60
    assert "no turn for a minute" in flat_text("operations.md")


def test_user_with_documented_rights_suffices(server, consume):
    """A user of Redis with the rights that the document lists reads, answers and leaves."""
    rights = re.search(r"\*\*A user of Redis\*\* needs `([^`]+)`", BROKERS)[1].split()
    server.client.execute_command("ACL", "SETUSER", "worker", "on", ">pw", "~in", "~out", *rights)
    server.add("in", [SETOSA_BODY])
    user = "worker:pw@"
    consumer = consume(server.url("in", user=user), server.url("out", user=user))
    wait_for_length(server, "out", 1)
    # Entries of another consumer are taken over, and the lag is asked for.
    server.add("in", [SETOSA_BODY])
    wait_for_length(server, "out", 2)
    wait_until(lambda: b'stream_lag{broker="redis"} 0.0\n' in consumer.call("/metrics").body)
    assert consumer.stop()[0] == 0

    server.add("in", [SETOSA_BODY])
    server.cli("XREADGROUP", "GROUP", "ml-model", "dead", "STREAMS", "in", ">")
    source = server.url("in", "&claim=1", user=user)
    consumer = consume(source, server.url("out", user=user))
    wait_for_length(server, "out", 3)
    assert consumer.stop()[0] == 0


def test_manifests_scale_default_group():
    """KEDA measures the lag of the group that a consumer joins unless its address names another."""
    for name, module in (
        ("scaledobject.yaml", redis_streams),
        ("scaledobject-kafka.yaml", kafka_topics),
    ):
        scaled = yaml.safe_load((MANIFESTS / name).read_text())
        metadata = scaled["spec"]["triggers"][0]["metadata"]
        assert metadata["consumerGroup"] == module.DEFAULT_GROUP
        lag = int(metadata.get("lagCount") or metadata["lagThreshold"])
        assert lag == 2 * module.DEFAULT_COUNT


def test_grace_period_covers_last_batch():
    """A pod has time for a read, for the reply of the broker, and 5 seconds for the batch."""
    deployment = yaml.safe_load((MANIFESTS / "deployment.yaml").read_text())
    grace_period = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    needed = redis_streams.READ_SECONDS + redis_streams.REPLY_SECONDS + 5
    assert needed <= grace_period
    assert grace_period >= kafka_topics.READ_SECONDS + 2 * kafka_topics.FLUSH_SECONDS + 5
