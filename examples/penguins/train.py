"""Predict the species of a penguin from numbers, strings and missing values in a DataFrame.

penguins.csv are the Palmer penguins (Gorman, Williams and Fraser, 2014, doi 10.1371/
journal.pone.0090081), as the package palmerpenguins 0.1.6 ships them, under CC0.
"""

import sys
from pathlib import Path

try:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from serving.training.command import train
    from serving.training.dataset import Dataset
except ModuleNotFoundError as error:
    sys.exit(f"train.py needs {error.name}: run `make install`, then .venv/bin/python")

NAME = "penguins"
MIN_SCORE = 0.95

MEASUREMENTS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
CATEGORIES = ["island", "sex"]


def load_data() -> Dataset:
    """Return the measurements of 344 penguins, and their species."""
    penguins = pd.read_csv(Path(__file__).with_name("penguins.csv"))

    return Dataset(
        X=penguins[MEASUREMENTS + CATEGORIES],
        y=penguins["species"],
        source="palmerpenguins 0.1.6",
    )


def build_estimator() -> Pipeline:
    """Return the estimator, not yet fitted."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    # A category that training had not is passed, and counted as unseen.
    categories = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((numbers, MEASUREMENTS), (categories, CATEGORIES))
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


if __name__ == "__main__":
    train(
        NAME,
        load_data,
        build_estimator,
        output=Path(__file__).with_name("model.pkl"),
        min_score=MIN_SCORE,
    )
