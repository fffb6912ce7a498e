"""The documented table of clients; conftest.py runs this file after all others."""

import re

from clients.examples import ROOT

TABLE_ROW = re.compile(r"^\| (.+) \| (.+) \| (.+) \| (yes|no) \|$", re.MULTILINE)


def test_documented_table_matches_results(results):
    """Each row of the table was tried with this result, and each result has a row."""
    rows = TABLE_ROW.findall((ROOT / "docs/api.md").read_text())
    assert sorted(rows) == sorted(set(results))
