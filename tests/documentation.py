"""The README's commands, as tests read them."""

import re

from helpers import ROOT

README = (ROOT / "README.md").read_text()

FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)

CONSOLES = [text for language, text in FENCE.findall(README) if language == "console"]

# A command begins with a prompt; lines that are indented belong to it; what it prints is not.
EXCHANGES = re.findall(r"^\$ (.*\n(?: .*\n)*)((?:[^$ ].*\n)*)", "".join(CONSOLES), re.MULTILINE)

COMMANDS = [command.strip() for command, _ in EXCHANGES]

CURLS = [(command, printed) for command, printed in EXCHANGES if command.startswith("curl ")]
