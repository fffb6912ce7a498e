"""Predict the progression of diabetes: a regressor."""

import sys
from pathlib import Path

try:
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import HistGradientBoostingRegressor

    from serving.training.command import train
    from serving.training.dataset import Dataset
except ModuleNotFoundError as error:
    sys.exit(f"train.py needs {error.name}: run `make install`, then .venv/bin/python")

NAME = "diabetes"
MIN_SCORE = 0.2  # of R2


def load_data() -> Dataset:
    """Return ten measurements of 442 patients, and the progression after a year."""
    return Dataset.from_sklearn(
        load_diabetes(scaled=False), source="sklearn.datasets.load_diabetes"
    )


def build_estimator() -> HistGradientBoostingRegressor:
    """Return the estimator, not yet fitted."""
    return HistGradientBoostingRegressor(
        learning_rate=0.03, max_iter=120, max_leaf_nodes=8, random_state=0
    )


if __name__ == "__main__":
    train(
        NAME,
        load_data,
        build_estimator,
        output=Path(__file__).with_name("model.pkl"),
        min_score=MIN_SCORE,
    )
