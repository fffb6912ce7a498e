"""The style check of `make lint` refuses three constructions, and nothing that is like them."""

import runpy
import subprocess
import sys

import pytest

from helpers import ROOT

SCRIPT = ROOT / ".ci/check_style.py"

NESTED = "nested conditional expression; use an if statement"

PACKED = "tuple-packed assignment; assign one value a line"

MULTIPLIED = "sequence multiplied by a condition; use an if statement"

REFUSED = [
    ("a = b if c else d if e else f", NESTED),
    ("a = (b if c else d) if e else f", NESTED),
    ("a = g(b if c else d) if e else f", NESTED),
    ("a, b = c, d", PACKED),
    ("self.a, self.b = a, []", PACKED),
    ("x = a, b = c, d", PACKED),
    ("a = [b] * bool(c)", MULTIPLIED),
    ("a = (b,) * (c > d)", MULTIPLIED),
    ("a = not_empty * (b,) + (not c) * ['d']", MULTIPLIED),
    ("a = '/' * ('/' in b)", MULTIPLIED),
    ("a = [*b] * (c and d)", MULTIPLIED),
]

ALLOWED = [
    "a = b if c else d",
    "a = [b if c else d, e if f else g]",
    "a, b = b, a",
    "a[i], a[j] = a[j], a[i]",
    "a, b = c",
    "a = b, c",
    "a = [0] * 4",
    "a = [0] * len(b)",
    "a = (b > c) * d",
]


@pytest.fixture(scope="module")
def find_violations():
    return runpy.run_path(str(SCRIPT))["find_violations"]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_construction_is_refused(find_violations, source, message):
    """The construction is found once, on its line."""
    assert list(find_violations(f"\n{source}\n")) == [(2, message)]


@pytest.mark.parametrize("source", ALLOWED)
def test_construction_is_allowed(find_violations, source):
    """What only looks like it is allowed."""
    assert list(find_violations(source)) == []


def test_script_checks_folders(tmp_path):
    """The script prints file, line and reason, and ends with status 1."""
    module = tmp_path / "folder" / "module.py"
    module.parent.mkdir()
    module.write_text("a = 1\na, b = 1, 2\n")
    command = [sys.executable, SCRIPT, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == f"{module}:2: {PACKED}\n"
    assert result.stderr == "1 violations\n"

    module.write_text("a = 1\n")
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
