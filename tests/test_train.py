"""train.py as a program: what it writes, and when it does not."""

import hashlib
import re
import resource
import subprocess
import sys
from itertools import pairwise

import joblib
import msgspec
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from helpers import ROOT
from serving.model.card import ModelCard
from serving.model.storage import load_model


def train(*options, **process):
    command = [sys.executable, ROOT / "train.py", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **process)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "model.pkl"
    done = train("--output", path)
    assert (done.returncode, done.stderr) == (0, "")
    return path, done.stdout


def card_of(path):
    return msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=ModelCard)


def digest(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_two_runs_write_the_same_bytes_and_nothing_else(trained, tmp_path):
    path, _ = trained
    train("--output", tmp_path / "model.pkl")
    for name in ("model.pkl", "model.json"):
        assert (tmp_path / name).read_bytes() == (path.parent / name).read_bytes()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["model.json", "model.pkl"]


def test_the_model_is_the_articles(trained):
    iris = load_iris()
    article = LogisticRegression(max_iter=200).fit(iris.data, iris.target)
    ours = joblib.load(trained[0])
    assert type(ours) is LogisticRegression
    np.testing.assert_array_equal(ours.coef_, article.coef_)
    np.testing.assert_array_equal(ours.intercept_, article.intercept_)


def test_the_card_says_what_is_so(trained):
    path, report = trained
    iris, card = load_iris(), card_of(path)
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card.data["sha256"] == digest(iris.data, iris.target)
    _, held, _, truth = train_test_split(
        iris.data, iris.target, test_size=30, stratify=iris.target, random_state=0
    )
    assert card.data["held_out_sha256"] == digest(held, truth)
    assert (card.name, card.estimator, card.rows) == (
        "iris",
        "LogisticRegression(max_iter=200)",
        150,
    )
    assert card.libraries["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [(c.value, c.label, c.share) for c in card.classes] == [
        (value, label, 1 / 3) for value, label in enumerate(iris.target_names)
    ]
    for column, feature in zip(iris.data.T, card.features, strict=True):
        assert (feature.minimum, feature.maximum, feature.unit) == (
            column.min(),
            column.max(),
            "cm",
        )
        inside = [column >= edge for edge in feature.edges]
        mass = [float((a & ~b).mean()) for a, b in pairwise(inside)]
        mass[-1] += float((column == column.max()).mean())
        np.testing.assert_allclose(feature.shares, mass)
    assert [feature.name for feature in card.features] == iris.feature_names
    held, folds = card.metrics["held_out"], card.metrics["cross_validation"]
    assert np.sum(held["confusion_matrix"]) == held["rows"] == 30
    assert np.trace(held["confusion_matrix"]) / 30 == held["accuracy"]
    assert len(folds["folds"]) == 5 and np.isclose(np.mean(folds["folds"]), folds["accuracy"])
    for said in (
        f"{held['accuracy']:.3f}",
        f"{folds['accuracy']:.3f}",
        card.sha256[:12],
        *iris.target_names,
    ):
        assert said in report


def test_the_committed_pair_belongs_together_and_came_from_this_script(trained):
    committed = load_model(ROOT / "model.pkl").card
    again = card_of(trained[0])
    # Another processor may round the coefficients otherwise, and so change the digest; nothing else may differ.
    for name in ("name", "estimator", "features", "classes", "rows", "metrics", "data"):
        assert getattr(committed, name) == getattr(again, name)


def test_the_held_out_rows_are_written_where_that_is_asked_for(tmp_path):
    done = train("--output", tmp_path / "model.pkl", "--held-out", tmp_path / "held_out.csv")
    assert (done.returncode, done.stderr) == (0, "")
    written = (tmp_path / "held_out.csv").read_text()
    assert written == (ROOT / "evaluation/held_out.csv").read_text()
    head, *lines = [line.split(",") for line in written.splitlines()]
    labels = load_iris().target_names.tolist()
    counts = np.zeros((3, 3), dtype=int)
    for actual, predicted in lines:
        counts[labels.index(actual), labels.index(predicted)] += 1
    assert head == ["actual", "predicted"]
    assert (
        counts.tolist() == card_of(tmp_path / "model.pkl").metrics["held_out"]["confusion_matrix"]
    )


def test_the_lock_of_dvc_names_what_is_committed():
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["train"]
    for out in lock["outs"]:
        assert out["md5"] == hashlib.md5((ROOT / out["path"]).read_bytes()).hexdigest()
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]
    assert stage["cmd"] == lock["cmd"]
    assert {one["path"] for one in lock["deps"]} == set(stage["deps"])


def test_to_register_needs_an_environment_and_one_line_says_so(tmp_path):
    done = train("--output", tmp_path / "model.pkl", "--register", "iris", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    said = r"the registry needs \w+: make install-registry, then \.venv-registry/bin/python\n"
    assert re.fullmatch(said, done.stderr)
    assert not (tmp_path / "model.pkl").exists()


def test_a_full_disk_leaves_the_old_files(tmp_path):
    old = {name: (ROOT / name).read_bytes() for name in ("model.pkl", "model.json")}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    size = len(old["model.pkl"]) + 1  # the card is larger
    assert size < len(old["model.json"])

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = train("--output", tmp_path / "model.pkl", preexec_fn=limit)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_below_the_floor_it_refuses_and_leaves_the_old_files(tmp_path):
    old = {name: (ROOT / name).read_bytes() for name in ("model.pkl", "model.json")}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    done = train("--output", tmp_path / "model.pkl", "--min-accuracy", "0.97")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"refused: an accuracy is below 0.97; {tmp_path / 'model.pkl'} is left as it was\n"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
