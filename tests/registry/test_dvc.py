"""DVC in a fresh clone: the lock is up to date, the stage is reproduced, versions are compared."""

import csv
import json
import os
import re
import subprocess
import sys

import msgspec
import yaml

from helpers import ROOT, git
from registries import change_training
from serving.training.evaluation import MAIN_METRICS as METRICS_BY_TASK

CHART_LIBRARY = ".venv-registry/vega.js"
OUTPUTS = ("model.pkl", "model.json", "evaluation/held_out.csv")
UP_TO_DATE = "Data and pipelines are up to date.\n"


def read_card(directory):
    return msgspec.json.decode((directory / "model.json").read_bytes())


def read_held_out(directory):
    """Return the actual and the predicted value of each held-out row, as text."""
    with (directory / "evaluation/held_out.csv").open(newline="") as file:
        return [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]


def test_fresh_clone_is_up_to_date(working_clone):
    """dvc.lock has the digests of the committed files, before anything is reproduced."""
    assert working_clone.dvc("status") == UP_TO_DATE
    assert "didn't change, skipping" in working_clone.dvc("repro")


def test_stage_reproduces_committed_files(working_clone):
    """Deleted outputs are trained again, as they are committed."""
    directory = working_clone.directory
    for name in OUTPUTS:
        (directory / name).unlink()
    working_clone.dvc("repro")

    reproduced = read_card(directory)
    committed = read_card(ROOT)
    # The versions of the libraries are this environment's. Others may write other bytes.
    for name in committed.keys() - {"sha256", "libraries"}:
        assert reproduced[name] == committed[name]
    if reproduced["libraries"] == committed["libraries"]:
        assert reproduced["sha256"] == committed["sha256"]
    held_out = "evaluation/held_out.csv"
    assert (directory / held_out).read_bytes() == (ROOT / held_out).read_bytes()
    assert working_clone.dvc("status") == UP_TO_DATE


def test_change_is_compared_with_last_commit(working_clone):
    """Another estimator is trained, and metrics and plots are compared with the last commit."""
    directory = working_clone.directory
    old_card = read_card(directory)
    old_rows = read_held_out(directory)
    change_training(directory, old_card["task"])
    git(directory, "add", "--all")
    assert "Running stage 'train'" in working_clone.dvc("repro")
    new_card = read_card(directory)
    new_rows = read_held_out(directory)

    changes = json.loads(working_clone.dvc("metrics", "diff", "--json"))["model.json"]
    assert changes["sha256"] == {"old": old_card["sha256"], "new": new_card["sha256"]}
    metric = METRICS_BY_TASK[old_card["task"]]
    scores = changes[f"metrics.held_out.{metric}"]
    assert scores["old"] == old_card["metrics"]["held_out"][metric]
    assert scores["new"] == new_card["metrics"]["held_out"][metric] < scores["old"]
    assert not [name for name in changes if name.startswith("data.")]

    plots = json.loads(working_clone.dvc("plots", "diff", "--json"))["data"]
    [plot] = plots["evaluation/held_out.csv"]
    assert plot["revisions"] == ["workspace", "HEAD"]
    for revision, expected in (("HEAD", old_rows), ("workspace", new_rows)):
        rows = [row for row in plot["content"]["data"]["values"] if row["rev"] == revision]
        assert [(row["actual"], row["predicted"]) for row in rows] == expected
    assert old_rows != new_rows
    working_clone.dvc("plots", "show")
    page = (directory / "dvc_plots/index.html").read_text()
    assert "Rows held out" in page
    assert "vegaEmbed(" in page
    assert re.findall("""(?:src|href)=["']([^"']+)""", page) == [f"../{CHART_LIBRARY}"]


def test_chart_library_is_installed():
    """The file that the page of the plots loads defines what the page calls."""
    makefile = (ROOT / "Makefile").read_text()
    [program] = re.findall(f"python -c '(.*)' > {re.escape(CHART_LIBRARY)}", makefile)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "window.vegaEmbed=" in result.stdout


def test_dvc_depends_on_training_alone():
    """The dependencies in dvc.yaml are what train.py imports or may import for another model."""
    program = (
        "import sys, train; "
        "print(*(module.__file__ for name, module in sys.modules.items() "
        "if name.partition('.')[0] in ('train', 'serving')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {os.path.relpath(path, ROOT) for path in result.stdout.split()}
    imported = {path for path in imported if not path.endswith("__init__.py")}
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]
    assert set(stage["deps"]) == imported | {"serving/model/transformers.py"}
