"""The command line of training: the files that it writes, and the cases in which it writes none."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from helpers import MODEL_FILE, ROOT
from serving.model.card import ModelCard

# An owner's train.py, as the repository first ships it.
SCRIPT = Path(__file__).parent / "scripts" / "iris.py"

# Names for OPENBLAS_CORETYPE, from the plainest to the most different instruction set.
BLAS_KERNELS = ("Nehalem", "Haswell", "SkylakeX", "ARMV8", "NEOVERSEN1")
PROBE_BLAS_KERNEL = """
import json, numpy, threadpoolctl
numpy.ones((64, 64)) @ numpy.ones((64, 64))
print(json.dumps([library.get("architecture", "") for library in threadpoolctl.threadpool_info()]))
"""


def train(*options, env=None, **process):
    command = [sys.executable, SCRIPT, *options]
    variables = {**os.environ, **(env or {}), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=variables, **process
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the path of a model that train.py wrote, and its report."""
    path = tmp_path_factory.mktemp("trained") / "model.pkl"
    result = train("--output", path)
    assert (result.returncode, result.stderr) == (0, "")
    return path, result.stdout


def card_of(path):
    return msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=ModelCard)


def digest(*arrays):
    return hashlib.sha256(msgspec.json.encode([array.tolist() for array in arrays])).hexdigest()


def copy_model(directory):
    """Copy a model and its card, and return the bytes of each file by name."""
    for path in (MODEL_FILE, MODEL_FILE.with_suffix(".json")):
        shutil.copy(path, directory)
    return read_directory(directory)


def read_directory(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def selectable_kernels():
    """Return the OpenBLAS kernels that the installed library and this processor can run."""
    kernels = []
    for kernel in BLAS_KERNELS:
        result = subprocess.run(
            [sys.executable, "-c", PROBE_BLAS_KERNEL],
            env=os.environ | {"OPENBLAS_CORETYPE": kernel},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if result.returncode != 0:
            continue  # the processor does not have an instruction of the kernel
        selected = [name.lower() for name in json.loads(result.stdout)]
        if kernel.lower() in selected:
            kernels.append(kernel)
    return kernels


def test_train_writes_identical_bytes_twice(trained, tmp_path):
    """Two runs write the same bytes, and no other file."""
    path, _ = trained
    train("--output", tmp_path / "model.pkl")
    for name in ("model.pkl", "model.json"):
        assert (tmp_path / name).read_bytes() == (path.parent / name).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.pkl"]


def test_train_writes_identical_bytes_on_every_processor(trained, tmp_path):
    """Model and card have the same bytes under each kernel of OpenBLAS and number of threads."""
    kernels = selectable_kernels()
    if len(kernels) < 2:
        pytest.skip("OpenBLAS cannot select two kernels on this processor")

    for kernel in (kernels[0], kernels[-1]):
        for threads in ("1", "2"):
            variables = {"OPENBLAS_CORETYPE": kernel, "OMP_NUM_THREADS": threads}
            path = tmp_path / kernel / threads / "model.pkl"
            path.parent.mkdir(parents=True)
            result = train("--output", path, env=variables)
            assert (result.returncode, result.stderr) == (0, "")
            assert read_directory(path.parent) == read_directory(trained[0].parent), variables


def test_model_is_the_optimum_of_the_article(trained):
    """The estimator is the article's with another solver, and its coefficients are the optimum.

    The article's solver stops early, so its coefficients are compared after more iterations.
    """
    iris = load_iris()
    model = joblib.load(trained[0])
    article = LogisticRegression(max_iter=200).fit(iris.data, iris.target)
    assert type(model) is LogisticRegression
    assert article.get_params() == model.get_params() | {"solver": "lbfgs", "tol": 1e-4}
    np.testing.assert_array_equal(model.predict(iris.data), article.predict(iris.data))

    converged = LogisticRegression(max_iter=2000, tol=1e-8).fit(iris.data, iris.target)
    np.testing.assert_allclose(model.coef_, converged.coef_, atol=1e-4)
    np.testing.assert_allclose(model.intercept_, converged.intercept_, atol=1e-4)


def test_card_describes_data_and_metrics(trained):
    """Each member of the card agrees with the data, the file and the printed report."""
    path, report = trained
    iris = load_iris()
    card = card_of(path)
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card.data["sha256"] == digest(iris.data, iris.target)
    _, X_held_out, _, y_held_out = train_test_split(
        iris.data, iris.target, test_size=30, stratify=iris.target, random_state=0
    )
    assert card.data["held_out_sha256"] == digest(X_held_out, y_held_out)

    assert (card.name, card.rows) == ("iris", 150)
    assert card.estimator == str(joblib.load(path))
    assert card.libraries["python"] == ".".join(map(str, sys.version_info[:3]))
    classes = [
        (class_info.value, class_info.label, class_info.share) for class_info in card.classes
    ]
    assert classes == [(value, label, 1 / 3) for value, label in enumerate(iris.target_names)]

    assert [feature.name for feature in card.features] == iris.feature_names
    for column, feature in zip(iris.data.T, card.features, strict=True):
        limits = (feature.minimum, feature.maximum, feature.unit)
        assert limits == (column.min(), column.max(), "cm")
        at_or_above = [column >= edge for edge in feature.edges]
        shares = [float((lower & ~upper).mean()) for lower, upper in pairwise(at_or_above)]
        shares[-1] += float((column == column.max()).mean())
        np.testing.assert_allclose(feature.shares, shares)

    held_out = card.metrics["held_out"]
    assert np.sum(held_out["confusion_matrix"]) == held_out["rows"] == 30
    assert np.trace(held_out["confusion_matrix"]) / 30 == held_out["accuracy"]
    cross_validation = card.metrics["cross_validation"]
    assert len(cross_validation["folds"]) == 5
    assert np.isclose(np.mean(cross_validation["folds"]), cross_validation["accuracy"])
    for text in (
        f"{held_out['accuracy']:.3f}",
        f"{cross_validation['accuracy']:.3f}",
        card.sha256[:12],
        *iris.target_names,
    ):
        assert text in report


def test_held_out_option_writes_labels(tmp_path):
    """--held-out writes the actual and predicted labels, as many as the card counts."""
    result = train("--output", tmp_path / "model.pkl", "--held-out", tmp_path / "held_out.csv")
    assert (result.returncode, result.stderr) == (0, "")
    written = (tmp_path / "held_out.csv").read_text()

    header, *lines = [line.split(",") for line in written.splitlines()]
    assert header == ["actual", "predicted"]
    labels = load_iris().target_names.tolist()
    counts = np.zeros((3, 3), dtype=int)
    for actual, predicted in lines:
        counts[labels.index(actual), labels.index(predicted)] += 1
    metrics = card_of(tmp_path / "model.pkl").metrics
    assert counts.tolist() == metrics["held_out"]["confusion_matrix"]


def test_full_disk_keeps_old_files(tmp_path):
    """A card that cannot be written leaves the old model and the old card."""
    contents = copy_model(tmp_path)
    size = len(contents["model.pkl"]) + 1  # the card is larger
    assert size < len(contents["model.json"])

    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    result = train("--output", tmp_path / "model.pkl", preexec_fn=limit_file_size)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert read_directory(tmp_path) == contents


def test_low_accuracy_keeps_old_files(tmp_path):
    """Below --min-score nothing is written, and one line says so."""
    contents = copy_model(tmp_path)
    path = tmp_path / "model.pkl"
    result = train("--output", path, "--min-score", "0.97")
    assert result.returncode == 1
    assert result.stderr == f"refused: accuracy 0.960 is below 0.97; {path} is unchanged\n"
    assert read_directory(tmp_path) == contents
