"""Programs and files that the tests of the registries share."""

import hashlib
import subprocess
import sys
from pathlib import Path

from helpers import environment

BIN = Path(sys.executable).parent
FILE_NAMES = ("model.pkl", "model.json")

# An owner's train.py with other parameters. The original is imported under another name.
OTHER_TRAINING = """
import original_train
from sklearn.linear_model import LogisticRegression

original_train.MIN_ACCURACY = 0.5
original_train.build_estimator = lambda: LogisticRegression(
    solver="newton-cholesky", tol=1e-10, {parameters}
)
if __name__ == "__main__":
    original_train.main()
"""


def change_training(directory, parameters):
    """Make train.py in `directory` train a LogisticRegression with other parameters."""
    script = directory / "train.py"
    script.rename(directory / "original_train.py")
    script.write_text(OTHER_TRAINING.format(parameters=parameters))


def run_python(directory, *arguments, **variables):
    """Run Python in `directory` and return its status, its output and its errors."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout, result.stderr


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_files(directory):
    """Return the bytes of each file in `directory` by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
