"""docs/benchmarks.md: accuracy, capacity and the compared systems, against their sources."""

import math
import re

import msgspec

import peers
import variants
from documentation import DOCUMENTS, flat_text, table
from helpers import MODEL_FILE
from manifests import container_variable, rendered_object, service_container

BENCHMARKS = DOCUMENTS["benchmarks.md"]


def test_accuracy_matches_card():
    """The accuracies are those of the model card."""
    metrics = msgspec.json.decode(MODEL_FILE.with_suffix(".json").read_bytes())["metrics"]
    rows = table("benchmarks.md", "Service and batch")
    [measured] = [result for _, result, command in rows if command == "`make train`"]
    cross_validated = metrics["cross_validation"]["accuracy"]
    held_out = metrics["held_out"]["accuracy"]
    assert measured == f"{cross_validated:.2f}; {held_out:.1f}"


def test_capacity_follows_from_rates():
    """The table of capacity is calculated from the measured rates and the manifests."""
    pattern = r"(\d+) with one row a request, (\d+) with 100\)"
    rates = [int(rate) for rate in re.search(pattern, BENCHMARKS).groups()]
    autoscaler = rendered_object("HorizontalPodAutoscaler")["spec"]
    target = autoscaler["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert f"the {target} % that the autoscaler" in flat_text("benchmarks.md")

    n_workers = int(container_variable("WEB_CONCURRENCY")["value"])
    for predictions, *cells in table("benchmarks.md", "Capacity"):
        for cell, rate in zip(cells, rates, strict=True):
            n_cores = math.ceil(int(predictions.replace(",", "")) / rate / (target / 100))
            assert cell == f"{n_cores}, {math.ceil(n_cores / n_workers)}"
    memory = service_container()["resources"]["limits"]["memory"]
    assert memory.replace("Mi", " MiB") in BENCHMARKS


def test_tables_list_compared_systems():
    """The tables have the frameworks and the servers that bench/ measures."""
    frameworks = [row[0] for row in table("benchmarks.md", "Compared with other frameworks")]
    assert frameworks == ["this service", "this service, Open Inference V2", *peers.PEERS]
    servers = [row[0] for row in table("benchmarks.md", "Compared with other servers")]
    assert servers == ["this worker", *variants.SERVERS]
