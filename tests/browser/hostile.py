"""Train a model whose names would run a script if a page took them for HTML."""

import sys
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from serving.training.command import train
from serving.training.dataset import Dataset

HOSTILE = "'><img src=x onerror=document.title='taken'><script>document.title='taken'</script>"


def load_data() -> Dataset:
    """Return iris with other names."""
    X, y = load_iris(return_X_y=True)
    labels = {value: f'{HOSTILE}" {value}' for value in (0, 1, 2)}
    names = [f"{HOSTILE}{index}" for index in range(4)]
    return Dataset(X=X, y=y, feature_names=names, labels=labels, source=HOSTILE)


def build_estimator() -> LogisticRegression:
    """Return the estimator, not yet fitted."""
    return LogisticRegression(max_iter=1000)


if __name__ == "__main__":
    train("hostile", load_data, build_estimator, output=Path(sys.argv[0]).with_name("model.pkl"))
