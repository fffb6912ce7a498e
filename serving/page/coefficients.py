"""The coefficients or importances of an estimator, if it has any."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.model.arrays import Floats
from serving.model.model import Model

MAX_ROWS = 30
MAX_COLUMNS = 10  # classes: more do not fit on a page


@dataclass(frozen=True)
class Coefficients:
    """A table of numbers: a row for each input of the last step, a column for each class.

    `largest` is the largest absolute value. `n_omitted` rows with smaller values are left out.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[float]]]
    largest: float
    n_omitted: int


def read_coefficients(model: Model) -> Coefficients | None:
    """Return the coefficients or the importances of the estimator, or of the last step of one."""
    estimator = model.estimator
    names = list(model.features) or [f"feature {index}" for index in range(model.n_features)]
    if hasattr(estimator, "steps"):  # a pipeline
        names = _output_names(estimator)
        estimator = estimator[-1]

    title = "Coefficients"
    columns: list[str] = []
    values = getattr(estimator, "coef_", None)
    if values is None:
        title = "Importances"
        columns = ["importance"]
        values = getattr(estimator, "feature_importances_", None)
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return None

    table = np.atleast_2d(values)
    if table.ndim != 2 or table.shape[0] > MAX_COLUMNS or not np.isfinite(table).all():
        return None
    if table.shape[1] != len(names):
        names = [f"input {index}" for index in range(table.shape[1])]
    return _largest_rows(title, columns or _column_names(model, len(table)), names, table)


def _output_names(pipeline: Any) -> list[str]:
    """Return the names of what the last step receives, or nothing if they are not known."""
    try:
        names = list(map(str, pipeline[:-1].get_feature_names_out()))
    except Exception:  # a transformer of the owner may raise anything, and the page needs no names
        return []

    # Without the names of the transformers, which scikit-learn writes before them.
    short_names = [name.rpartition("__")[2] for name in names]
    if len(set(short_names)) < len(names):
        return names
    return short_names


def _column_names(model: Model, n_columns: int) -> list[str]:
    labels = list(model.labels.values())
    if n_columns == len(labels):
        return labels
    if n_columns == 1 and len(labels) == 2:
        return [labels[1]]  # of two classes there is one score, which is high for the second
    if n_columns == 1:
        return ["value"]
    return [f"output {index}" for index in range(n_columns)]


def _largest_rows(title: str, columns: list[str], names: list[str], table: Floats) -> Coefficients:
    """Return the rows of a table of shape (columns, rows), without the smallest of many."""
    sizes = np.abs(table).max(axis=0)
    kept: Any = range(len(names))
    if len(names) > MAX_ROWS:
        kept = np.argsort(-sizes, kind="stable")[:MAX_ROWS].tolist()

    rows = [(names[index], table[:, index].tolist()) for index in kept]
    largest = float(sizes.max()) if len(sizes) else 0.0
    return Coefficients(title, columns, rows, largest or 1.0, len(names) - len(rows))
