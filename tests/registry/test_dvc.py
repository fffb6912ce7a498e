"""DVC on a fresh clone: the stage is reproduced, and versions are compared. Run by `make test-registry`."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from helpers import ROOT, environment, git

BIN = Path(sys.executable).parent
OTHER = ("max_iter=200", "max_iter=200, C=0.01")  # of LogisticRegression, in train.py


@pytest.fixture
def dvc(clone):
    """Return a function that runs dvc in a fresh clone, and returns what it prints."""

    def run(*words):
        env = environment(
            PATH=f"{BIN}:/usr/bin:/bin",
            HOME=str(clone.parent),
            DVC_GLOBAL_CONFIG_DIR=str(clone.parent),
        )
        done = subprocess.run(
            [BIN / "dvc", *words], cwd=clone, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.clone = clone
    return run


def card(directory):
    return msgspec.json.decode((directory / "model.json").read_bytes())


def test_the_stage_is_reproduced_to_what_is_committed(dvc):
    for name in ("model.pkl", "model.json", "evaluation/held_out.csv"):
        (dvc.clone / name).unlink()
    dvc("repro")
    again, committed = card(dvc.clone), card(ROOT)
    # Another processor may round the coefficients otherwise; the libraries' versions are this environment's.
    for name in ("name", "estimator", "features", "classes", "rows", "metrics", "data"):
        assert again[name] == committed[name]
    assert (dvc.clone / "evaluation/held_out.csv").read_bytes() == (
        ROOT / "evaluation/held_out.csv"
    ).read_bytes()
    assert dvc("status") == "Data and pipelines are up to date.\n"
    assert "didn't change, skipping" in dvc("repro")


def test_a_change_is_trained_and_compared_with_the_last_commit(dvc):
    dvc("repro")
    git(dvc.clone, "commit", "--quiet", "--all", "--allow-empty", "--message", "Trained")
    old = card(dvc.clone)
    script = dvc.clone / "train.py"
    script.write_text(
        script.read_text().replace(*OTHER).replace("MIN_ACCURACY = 0.9", "MIN_ACCURACY = 0.5")
    )
    assert "Running stage 'train'" in dvc("repro")
    new = card(dvc.clone)
    changes = json.loads(dvc("metrics", "diff", "--json"))["model.json"]
    assert (changes["sha256"]["old"], changes["sha256"]["new"]) == (old["sha256"], new["sha256"])
    accuracy = changes["metrics.held_out.accuracy"]
    assert accuracy["old"] == 1.0 and accuracy["new"] == pytest.approx(26 / 30)
    assert not [name for name in changes if name.startswith("data.")]
    [plot] = json.loads(dvc("plots", "diff", "--json"))["data"]["evaluation/held_out.csv"]
    assert plot["revisions"] == ["workspace", "HEAD"]
    for revision, actual, predicted in (("HEAD", 30, 30), ("workspace", 30, 26)):
        rows = [row for row in plot["content"]["data"]["values"] if row["rev"] == revision]
        assert (
            len(rows) == actual
            and sum(row["actual"] == row["predicted"] for row in rows) == predicted
        )
    dvc("plots", "show")
    assert "Rows held out" in (dvc.clone / "dvc_plots/index.html").read_text()
