"""MLflow's `python_function` of a version: its model file, asked with rows as the service asks it.

A version has a copy of this module and of `serving.model`, so that MLflow's tools need no more.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from serving.model.arrays import Array
from serving.model.card import FeatureValue
from serving.model.errors import InvalidInput
from serving.model.loading import load_model
from serving.model.model import Model
from serving.model.signature import has_integer_categories

# The directory of our files in a version, beside MLflow's own form of the estimator.
ARTIFACT_DIR = "extra_files"


class ServedModel:
    """A model with the interface that MLflow calls."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Array:
        """Return the predictions, of shape (rows,) or (rows, outputs).

        `model_input` is a DataFrame with the names of the features, or an array of shape
        (rows, features). Raises InvalidInput.
        """
        frame = pd.DataFrame(model_input)
        if not set(self.model.features).intersection(frame.columns):
            frame.columns = self.model.features
        values = self._to_values(frame.reindex(columns=self.model.features))
        return self.model.predict(self.model.signature.to_rows(values))

    def _to_values(self, frame: pd.DataFrame) -> list[tuple[FeatureValue, ...]]:
        """Return the values of each row as Python values, with None for a missing one."""
        columns = []
        for feature in self.model.signature.features:
            column = frame[feature.name]
            is_missing = column.isna()
            if is_missing.any() and not feature.nullable:
                row = int(is_missing.argmax())
                raise InvalidInput(f"Row {row} has no value of `{feature.name}`")
            if feature.type == "integer" or has_integer_categories(feature):
                check_integers(column.dropna(), feature.name)
            columns.append(column.astype(object).mask(is_missing, None).tolist())
        return list(zip(*columns, strict=True))


def check_integers(values: Any, name: str) -> None:
    """Raise InvalidInput unless all values of the feature `name` are integers."""
    if (values % 1 != 0).any():
        raise InvalidInput(f"The values of `{name}` must be integers")


def _load_pyfunc(path: str) -> ServedModel:
    """Return the model of the version in `path`. MLflow calls this. Raises ModelError."""
    return ServedModel(load_model(Path(path, ARTIFACT_DIR, "model.pkl")))
