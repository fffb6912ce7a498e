"""Predict the language of a text: names of countries in eight languages.

territories.csv are the names of the Unicode CLDR, as the package Babel 2.18.0 ships them, without
those that two of the languages share, under the Unicode License v3.
"""

import csv
import sys
from pathlib import Path

try:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline

    from serving.training.command import train
    from serving.training.dataset import Dataset
except ModuleNotFoundError as error:
    sys.exit(f"train.py needs {error.name}: run `make install`, then .venv/bin/python")

NAME = "languages"
MIN_SCORE = 0.6


def load_data() -> Dataset:
    """Return the names of countries, and the language of each."""
    with Path(__file__).with_name("territories.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    return Dataset(
        X=[row["name"] for row in rows],
        y=[row["language"] for row in rows],
        source="Unicode CLDR in Babel 2.18.0",
    )


def build_estimator() -> Pipeline:
    """Return the estimator, not yet fitted."""
    n_grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    return make_pipeline(n_grams, LogisticRegression(C=10, max_iter=1000))


if __name__ == "__main__":
    train(
        NAME,
        load_data,
        build_estimator,
        output=Path(__file__).with_name("model.pkl"),
        min_score=MIN_SCORE,
    )
