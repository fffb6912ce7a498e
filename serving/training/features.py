"""The type and the distribution of each feature, from the training data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.model.arrays import Array
from serving.model.card import FeatureInfo, FeatureType, FeatureValue
from serving.monitoring.drift import bin_shares, quantile_edges

# A column of strings with more distinct values is text. Each category is a series in the metrics.
MAX_CATEGORIES = 100

TYPES_BY_KIND: dict[str, FeatureType] = {  # by the kind of a numpy dtype
    "b": "boolean",
    "i": "integer",
    "u": "integer",
    "f": "number",
}

# The types of a DataFrame's columns that have no room for a missing value, and those that have.
NULLABLE_DTYPES = {"bool": "object", "int64": "float64"}


class DataError(ValueError):
    """Training data that no model can be served for; the text names the column."""


@dataclass
class Column:
    """One column of the training data: Python values, with None for a missing one.

    `dtype` is the type of the column in a DataFrame.
    """

    name: str
    values: list[Any]
    dtype: str | None = None


def to_column(name: str, values: Any, dtype: str | None = None) -> Column:
    """Return a column of `values`, an iterable with None or NaN for a missing value."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        values = values.tolist()

    plain: list[FeatureValue] = []
    for value in values:
        if is_missing(value):
            plain.append(None)
        elif isinstance(value, np.generic):
            plain.append(value.item())
        else:
            plain.append(value)
    return Column(name, plain, dtype)


def is_missing(value: Any) -> bool:
    """Return whether a value stands for a missing one: None, NaN, and pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


def describe_feature(
    column: Column, feature_type: FeatureType | None = None, nullable: bool | None = None
) -> FeatureInfo:
    """Return the type and the distribution of a column.

    `feature_type` and `nullable` replace what the values tell. Raises DataError.
    """
    present = [value for value in column.values if value is not None]
    if not present:
        raise DataError(f"column `{column.name}` has no value")
    missing_share = 1 - len(present) / len(column.values)
    if feature_type is None:
        feature_type = infer_type(column, present)

    if nullable is None:
        nullable = missing_share > 0

    common: dict[str, Any] = {
        "name": column.name,
        "type": feature_type,
        "dtype": column.dtype,
        "nullable": nullable,
    }
    if missing_share:
        common["missing_share"] = missing_share
    if nullable and column.dtype in NULLABLE_DTYPES:
        common["dtype"] = NULLABLE_DTYPES[column.dtype]
    if feature_type == "category":
        return describe_category(present, len(column.values), common)
    if feature_type == "boolean":
        counts = [present.count(value) for value in (False, True)]
        return FeatureInfo(**common, shares=[count / len(column.values) for count in counts])
    if feature_type == "text":
        lengths = np.array(list(map(len, present)), dtype=np.float64)
        return FeatureInfo(**common, **describe_distribution(lengths, 1 - missing_share))

    numbers = np.array(present, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise DataError(f"column `{column.name}` has an infinite value")
    return FeatureInfo(
        **common,
        unit=find_unit(column.name),
        minimum=float(numbers.min()),
        maximum=float(numbers.max()),
        **describe_distribution(numbers, 1 - missing_share),
    )


def infer_type(column: Column, present: Sequence[FeatureValue]) -> FeatureType:
    """Return the type of a column whose values are `present`. Raises DataError."""
    types = set(map(type, present))
    if column.dtype in ("category", "Enum", "Categorical"):
        return "category"
    if types == {str}:
        if len(set(present)) <= MAX_CATEGORIES:
            return "category"
        return "text"

    kind = np.array(present).dtype.kind
    if types <= {bool, int, float} and (types == {bool} or bool not in types):
        return TYPES_BY_KIND[kind]
    names = " and ".join(sorted(found.__name__ for found in types))
    raise DataError(
        f"column `{column.name}` holds {names}; a feature is a number, a boolean or a string"
    )


def describe_category(present: list[Any], n_rows: int, common: Mapping[str, Any]) -> FeatureInfo:
    """Return the categories of a column and their shares."""
    counts = Counter(present)
    categories = sorted(counts)
    if not set(map(type, categories)) <= {str, int}:
        raise DataError(f"column `{common['name']}`: a category is a string or an integer")
    return FeatureInfo(
        **common,
        categories=categories,
        shares=[counts[category] / n_rows for category in categories],
    )


def describe_distribution(values: Array, present_share: float) -> dict[str, Any]:
    """Return the edges of the bins of `values`, and the share of all rows in each."""
    edges = quantile_edges(values)
    shares = bin_shares(values, edges) * present_share
    return {"edges": edges.tolist(), "shares": shares.tolist()}


def find_unit(name: str) -> str | None:
    """Return the unit at the end of a name, as in `petal length (cm)`."""
    if not name.endswith(")") or "(" not in name:
        return None
    return name.rpartition("(")[2].rstrip(")") or None
