"""Schemathesis: requests that the OpenAPI document allows, and requests that it does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clients.examples import ROOT

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.claim(
    "OpenAPI 3.1",
    "schemathesis",
    "every operation, all checks except those in `tests/clients/schemathesis.toml`",
)
def test_every_operation(address):
    completed = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={CONFIG}",
            "run",
            "--no-color",
            "--seed=0",
            f"http://{address}/openapi.json",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout

    counts = re.search(r"Selected: (\d+/\d+)\s+Tested: (\d+)", completed.stdout)
    selected, tested = counts.groups()
    assert selected == f"{tested}/{tested}"
