"""docs/batch.md about brokers, compared with the code and the manifests."""

import re

import yaml

from documentation import flat_text, section
from helpers import ROOT
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
