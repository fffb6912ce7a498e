"""Helpers of the batch tests: run batch.py, make its inputs, read its outputs."""

import csv
import io
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
from sklearn.datasets import load_iris

from helpers import MODEL_FILE, NAMES, ROOT
from serving.model.loading import load_model

BATCH = [sys.executable, ROOT / "batch.py"]

IRIS = load_iris()

LABELS = IRIS.target_names.tolist()

MODEL = load_model(MODEL_FILE)

HEADER = ",".join(NAMES)

GOOD_LINE = "5.1,3.5,1.4,0.2"


def run_batch(*words, status=0, **process):
    """Run batch.py, check its status, and return its stdout, or its stderr if it fails."""
    result = subprocess.run(
        [*BATCH, *words], capture_output=True, text=True, timeout=120, **process
    )
    assert result.returncode == status, result.stderr
    if status:
        assert result.stdout == "" and "Traceback" not in result.stderr
    return result.stderr if status else result.stdout


def batch_error(*words, **process):
    """Run batch.py, which fails, and return its one line on stderr."""
    error = run_batch(*words, status=1, **process)
    [line] = error.splitlines()
    return line


def iris_table(rows=150, noise=0.1, **columns):
    """Return rows drawn from Iris with some noise, features in reverse order, and more columns."""
    rng = np.random.default_rng(0)
    data = np.abs(IRIS.data[rng.integers(150, size=rows)] + rng.normal(0, noise, size=(rows, 4)))
    features = dict(zip(NAMES, data.T, strict=True))
    return pa.table(
        {"id": np.arange(rows), **{name: features[name] for name in reversed(NAMES)}, **columns}
    )


def expected_predictions(data):
    """Return the predictions of the estimator itself."""
    return MODEL.estimator.predict(
        np.column_stack([data.column(name).to_numpy() for name in NAMES])
    )


def read_csv_rows(path):
    """Return the rows of a CSV file as the standard library reads them."""
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def list_names(path):
    """Return the sorted names in a directory."""
    return sorted(entry.name for entry in path.iterdir())


def json_line(**changes):
    """Return a row as a JSON object, with changed or added members."""
    row = dict(zip(NAMES, [5.1, 3.5, 1.4, 0.2], strict=True)) | changes
    return msgspec.json.encode(row).decode()
