"""Train the model that this repository serves. For a model of your own change what is here."""

import sys
from pathlib import Path

try:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    from serving.training.command import train
    from serving.training.dataset import Dataset
except ModuleNotFoundError as error:
    sys.exit(f"train.py needs {error.name}: run `make install`, then .venv/bin/python")

NAME = "iris"
MIN_SCORE = 0.9  # of accuracy, or of R2 for a regressor


def load_data() -> Dataset:
    """Return the data that the model is trained on."""
    return Dataset.from_sklearn(load_iris(), source="sklearn.datasets.load_iris")


def build_estimator() -> LogisticRegression:
    """Return the estimator, not yet fitted."""
    # The default solver, lbfgs, stops near the optimum, at a point that depends on the rounding of
    # the processor and the number of its threads. Newton's method gets within 1e-11 of the optimum.
    return LogisticRegression(max_iter=200, solver="newton-cholesky", tol=1e-10)


if __name__ == "__main__":
    train(
        NAME,
        load_data,
        build_estimator,
        output=Path(__file__).with_name("model.pkl"),
        min_score=MIN_SCORE,
        coefficient_decimals=9,
    )
