"""DataFrames: build what an estimator that was fitted on a DataFrame is asked with.

A builder takes the rows of a signature. It makes columns of the same types in training and in
serving, with the library that the estimator was fitted with.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.model.arrays import Rows
from serving.model.card import FeatureInfo
from serving.model.errors import ModelError


class PandasBuilder:
    """Builds a pandas DataFrame."""

    def __init__(self, features: Sequence[FeatureInfo]) -> None:
        self.pandas = import_library("pandas")
        self.features = features
        self.known_categories = [frozenset(feature.categories) for feature in features]
        self.dtypes = [self._column_dtype(feature) for feature in features]

    def _column_dtype(self, feature: FeatureInfo) -> Any:
        if feature.dtype == "category":
            return self.pandas.CategoricalDtype(feature.categories)
        return feature.dtype

    def __call__(self, rows: Rows) -> Any:
        """Return a DataFrame of `rows`, of shape (rows, features)."""
        columns = {}
        for index, (feature, dtype) in enumerate(zip(self.features, self.dtypes, strict=True)):
            column = rows[:, index]
            if feature.dtype == "category":
                column = without_unseen(column, self.known_categories[index])
            if feature.dtype == "object":
                column = np.where(column == None, np.nan, column)  # noqa: E711 - for each element
            columns[feature.name] = self.pandas.Series(column, dtype=dtype)
        return self.pandas.DataFrame(columns, copy=False)


class PolarsBuilder:
    """Builds a polars DataFrame."""

    def __init__(self, features: Sequence[FeatureInfo]) -> None:
        self.polars = import_library("polars")
        self.features = features
        self.known_categories = [frozenset(feature.categories) for feature in features]
        self.dtypes = [self._column_dtype(feature) for feature in features]

    def _column_dtype(self, feature: FeatureInfo) -> Any:
        if feature.dtype == "Enum":
            return self.polars.Enum(feature.categories)
        return getattr(self.polars, str(feature.dtype))

    def __call__(self, rows: Rows) -> Any:
        """Return a DataFrame of `rows`, of shape (rows, features)."""
        columns = []
        for index, (feature, dtype) in enumerate(zip(self.features, self.dtypes, strict=True)):
            column = rows[:, index]
            if feature.dtype == "Enum":
                column = without_unseen(column, self.known_categories[index])
            values = column.tolist()
            if rows.dtype != object and feature.nullable:
                values = [None if value != value else value for value in values]
            columns.append(self.polars.Series(feature.name, values, dtype=dtype, strict=False))
        return self.polars.DataFrame(columns)


FRAME_BUILDERS = {"pandas": PandasBuilder, "polars": PolarsBuilder}


def import_library(name: str) -> Any:
    """Return the library of the DataFrames. Raises ModelError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"the model takes a DataFrame of {name}, which is not installed: "
            "add it to the group `model` in pyproject.toml"
        ) from error


def without_unseen(column: Rows, known: frozenset[Any]) -> Rows:
    """Return `column` with None for each category that training had not.

    A categorical type has no room for one.
    """
    kept = np.empty(len(column), dtype=object)
    kept[:] = [value if value in known else None for value in column]
    return kept
