"""The documents as tests read them: sections, tables, commands and what they print."""

import re
import subprocess

from helpers import ROOT

PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

DOCUMENTS = {path.name: path.read_text() for path in PATHS}

FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)

# A command starts with a prompt and continues on indented lines; other lines are its output.
EXCHANGE = re.compile(r"^\$ (.*\n(?: .*\n)*)((?:[^$ ].*\n)*)", re.MULTILINE)

END_MARK = "--- end of command ---"


def flat_text(name):
    """Return a document without its line breaks."""
    return " ".join(DOCUMENTS[name].split())


def exchanges_in(text):
    """Return each command of a text and what it prints, from top to bottom."""
    blocks = [block for language, block in FENCE.findall(text) if language == "console"]
    return [(command.strip(), printed) for command, printed in EXCHANGE.findall("".join(blocks))]


def exchanges(name):
    """Return each command of a document and what it prints, from top to bottom."""
    return exchanges_in(DOCUMENTS[name])


def commands(name):
    """Return the commands of a document, from top to bottom."""
    return [command for command, _ in exchanges(name)]


def curls():
    """Return each curl command of all documents, and what it prints."""
    return [
        (command, printed)
        for name in DOCUMENTS
        for command, printed in exchanges(name)
        if command.startswith("curl ")
    ]


def section(name, title):
    """Return the text below a heading of a document."""
    pattern = rf"\n## {re.escape(title)}\n(.*?)(?=\n## |\Z)"
    return re.search(pattern, DOCUMENTS[name], re.DOTALL)[1]


def table(name, title):
    """Return the rows of the first table below a heading, without its head, cell by cell."""
    lines = re.findall(r"(?:^\|.*\n)+", section(name, title), re.MULTILINE)[0].splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[cell.strip() for cell in row] for row in cells]


def quoted(text):
    """Return what a text has between backticks."""
    return re.findall("`([^`]+)`", text)


def run_commands(commands, directory, environ, wait_after):
    """Run commands from top to bottom in one shell and return what each prints.

    `wait_after` maps a part of a command to the shell code that waits for its effect.
    """
    script = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for command in commands:
        script.append(command)
        script += [f"{{ {code}; }} >&2" for part, code in wait_after.items() if part in command]
        script.append(f"echo '{END_MARK}'")

    result = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.split(f"{END_MARK}\n")[:-1]
