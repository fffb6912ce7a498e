"""What the models of examples/ cost, relative to the shipped one: requests, memory, packages.

It needs wrk and two cores: .venv/bin/python bench/examples.py
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

from load import ROOT, memory_bytes, post_script, run_wrk, serve
from variants import OURS

SECONDS = 4
ROUNDS = 3
PACKAGES = {"penguins": ("pandas", "python-dateutil", "tzdata"), "breast_cancer": ("xgboost-cpu",)}
MEGABYTE = 1e6


def train(example, directory):
    """Return the path of the model of an example, and a body with its first reference row."""
    path = directory / example / "model.pkl"
    path.parent.mkdir()
    script = ROOT / "examples" / example / "train.py"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script, "--output", path], env=env, check=True)
    return path, example_body(path)


def example_body(path):
    card = json.loads(path.with_suffix(".json").read_text())
    return json.dumps({"features": card["reference"][0]["features"]})


def package_bytes(names):
    """Return the size of the installed files of some packages."""
    total = 0
    for name in names:
        for file in files(name):
            total += file.locate().stat().st_size if file.locate().exists() else 0
    return total


def main():
    command, env = OURS
    with tempfile.TemporaryDirectory() as folder:
        models = {"the shipped model": (ROOT / "model.pkl", example_body(ROOT / "model.pkl"))}
        for script in sorted((ROOT / "examples").glob("*/train.py")):
            models[script.parent.name] = train(script.parent.name, Path(folder))

        rates = {name: [] for name in models}
        memory = {}
        for _ in range(ROUNDS):
            for name, (path, body) in models.items():
                variables = env | {"MODEL_PATH": str(path)}
                with serve(command, variables, body=body) as (process, _):
                    run_wrk(1, script=post_script(body))
                    rates[name].append(run_wrk(SECONDS, script=post_script(body)).rate)
                    memory[name] = memory_bytes(process)

        first = statistics.median(rates["the shipped model"])
        for name, (path, _) in models.items():
            rate = statistics.median(rates[name]) / first
            print(
                f"{name}: {rate:.2f} of the requests/s, "
                f"{memory[name] / memory['the shipped model']:.2f} of the memory, "
                f"{path.stat().st_size / 1e3:.0f} kB of model, "
                f"{package_bytes(PACKAGES.get(name, ())) / MEGABYTE:.0f} MB of packages"
            )


if __name__ == "__main__":
    main()
