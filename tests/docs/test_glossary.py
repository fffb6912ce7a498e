"""docs/glossary.md defines each term once, in alphabetical order."""

import re

from documentation import DOCUMENTS


def test_terms_are_sorted():
    """The terms are sorted and include those that every reader needs."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", DOCUMENTS["glossary.md"], re.MULTILINE)[2:]
    terms = [term for term, _ in rows]
    assert terms == sorted(set(terms), key=str.lower)
    assert {
        "concept drift",
        "model card",
        "model version",
        "protocol",
        "PSI",
        "reference",
        "slot",
        "snapshot",
    } <= set(terms)
