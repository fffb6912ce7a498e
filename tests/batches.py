"""batch.py as tests run it."""

import csv
import io
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
from sklearn.datasets import load_iris

from helpers import NAMES, ROOT
from serving.model.storage import load_model

BATCH = [sys.executable, ROOT / "batch.py"]

IRIS = load_iris()

LABELS = IRIS.target_names.tolist()

MODEL = load_model(ROOT / "model.pkl")

HEADER = ",".join(NAMES)

GOOD = "5.1,3.5,1.4,0.2"


def batch(*words, status=0, **process):
    """Return what the program prints; it ends with this status, and of an error it prints one line."""
    done = subprocess.run([*BATCH, *words], capture_output=True, text=True, timeout=120, **process)
    assert done.returncode == status, done.stderr
    if status:
        assert done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr if status else done.stdout


def refused(*words, **process):
    error = batch(*words, status=1, **process)
    [line] = error.splitlines()
    return line


def table(rows=150, noise=0.1, **columns):
    """Return Iris's rows, drawn anew, shuffled columns, and what else there is."""
    rng = np.random.default_rng(0)
    data = np.abs(IRIS.data[rng.integers(150, size=rows)] + rng.normal(0, noise, size=(rows, 4)))
    features = dict(zip(NAMES, data.T, strict=True))
    return pa.table(
        {"id": np.arange(rows), **{name: features[name] for name in reversed(NAMES)}, **columns}
    )


def expected(data):
    return MODEL.estimator.predict(
        np.column_stack([data.column(name).to_numpy() for name in NAMES])
    )


def written(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def listing(path):
    return sorted(found.name for found in path.iterdir())


def member(**changes):
    row = dict(zip(NAMES, [5.1, 3.5, 1.4, 0.2], strict=True)) | changes
    return msgspec.json.encode(row).decode()
