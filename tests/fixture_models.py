"""Models for tests: each is trained once a run, so that no test depends on the shipped model."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model
from training.scripts import iris

MEASUREMENTS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]

PENGUINS = Path(__file__).parent.parent / "examples" / "penguins" / "penguins.csv"

TEXTS = {
    "en": ["the house is old", "where is the station", "a good day", "it is raining again"],
    "de": ["das Haus ist alt", "wo ist der Bahnhof", "ein guter Tag", "es regnet wieder"],
}


def train_iris() -> Any:
    return train_model("iris", iris.load_data(), iris.build_estimator, coefficient_decimals=9)


def load_penguins() -> Any:
    import pandas as pd  # which not every environment of the tests has

    return pd.read_csv(PENGUINS)


def build_penguins_estimator() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((numbers, MEASUREMENTS), (categories, ["island", "sex"]))
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def train_penguins() -> Any:
    penguins = load_penguins()
    dataset = Dataset(penguins[[*MEASUREMENTS, "island", "sex"]], penguins["species"])
    return train_model("penguins", dataset, build_penguins_estimator)


def train_diabetes() -> Any:
    return train_model("diabetes", Dataset.from_sklearn(load_diabetes()), Ridge)


def load_texts() -> tuple[list[str], list[str]]:
    """Return sentences and their languages."""
    texts = []
    languages = []
    for language, sentences in TEXTS.items():
        texts += sentences * 3
        languages += [language] * len(sentences) * 3
    return texts, languages


def train_languages() -> Any:
    return train_model("languages", Dataset(*load_texts()), build_languages_estimator)


def build_languages_estimator() -> Any:
    return make_pipeline(TfidfVectorizer(analyzer="char_wb"), LogisticRegression())


def train_linnerud() -> Any:
    return train_model("linnerud", Dataset.from_sklearn(load_linnerud()), LinearRegression)


TRAINERS: dict[str, Callable[[], Any]] = {
    "iris": train_iris,
    "penguins": train_penguins,
    "diabetes": train_diabetes,
    "languages": train_languages,
    "linnerud": train_linnerud,
}


@cache
def model_file(name: str) -> Path:
    """Return the path of a trained model, which has its card beside it."""
    directory = Path(tempfile.mkdtemp(prefix="fixture-model-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = directory / "model.pkl"
    write_model(path, TRAINERS[name]())
    return path
