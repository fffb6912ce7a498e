"""Train a model with a feature of each type, which decides by each of them."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from serving.training.command import train
from serving.training.dataset import Dataset

ROWS = 400


def load_data() -> Dataset:
    """Return random rows; the target is their number of reasons."""
    random = np.random.default_rng(0)
    heavy = random.random(ROWS) < 0.5
    count = random.integers(0, 10, ROWS)
    grade = random.integers(1, 4, ROWS)
    note = random.choice(["good plant", "bad plant", "old bad tree", "good old tree"], ROWS)
    reasons = heavy.astype(int) + (count > 4) + (grade == 3) + ["bad" in text for text in note]

    X = pd.DataFrame({"heavy": heavy, "count": count, "grade": pd.Categorical(grade), "note": note})
    return Dataset(X=X, y=np.where(reasons > 1, "yes", "no"), types={"note": "text"})


def build_estimator() -> Pipeline:
    """Return the estimator, not yet fitted."""
    columns = make_column_transformer(
        ("passthrough", ["heavy", "count"]),
        (OneHotEncoder(handle_unknown="ignore"), ["grade"]),
        (CountVectorizer(), "note"),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


if __name__ == "__main__":
    train("kinds", load_data, build_estimator, output=Path(__file__).with_name("model.pkl"))
