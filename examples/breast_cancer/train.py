"""Predict whether a tumour is benign: a gradient booster of another library, XGBoost.

Add `xgboost-cpu` to the dependency group `model` in pyproject.toml, and run `make lock`.
"""

import sys
from pathlib import Path

try:
    from sklearn.datasets import load_breast_cancer
    from xgboost import XGBClassifier

    from serving.training.command import train
    from serving.training.dataset import Dataset
except ModuleNotFoundError as error:
    sys.exit(f"train.py needs {error.name}: run `make install`, then .venv/bin/python")

NAME = "breast-cancer"
MIN_SCORE = 0.9


def load_data() -> Dataset:
    """Return thirty measurements of 569 tumours, and whether each is benign."""
    return Dataset.from_sklearn(load_breast_cancer(), source="sklearn.datasets.load_breast_cancer")


def build_estimator() -> XGBClassifier:
    """Return the estimator, not yet fitted."""
    return XGBClassifier(n_estimators=50, max_depth=3, random_state=0)


if __name__ == "__main__":
    train(
        NAME,
        load_data,
        build_estimator,
        output=Path(__file__).with_name("model.pkl"),
        min_score=MIN_SCORE,
    )
