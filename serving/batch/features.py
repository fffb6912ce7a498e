"""Columns of features: Arrow columns in, the rows that the model takes out, as its signature says.

A value that a feature does not take is a reason for its row to be bad.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.stats import BatchError
from serving.model.arrays import Rows
from serving.model.card import FeatureInfo
from serving.model.model import FLOAT32_MAX
from serving.model.signature import Signature, has_integer_categories

MAX_QUOTED_LENGTH = 100  # characters of a value in a message
MAX_INTEGER = 2**53  # every integer up to here is a float64

# What stands for a missing value in a field of CSV.
NULL_VALUES = ["", "null", "NULL", "NA", "N/A", "#N/A", "None"]
NAN_VALUES = ["nan", "NaN", "NAN"]

EXPECTED_VALUES = {
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "category": "a string",
    "text": "a string",
}
EXPECTED_COLUMNS = {
    "number": "numbers",
    "integer": "numbers",
    "boolean": "booleans",
    "category": "strings",
    "text": "strings",
}
ARROW_TYPES = {
    "number": pa.float64(),
    "integer": pa.float64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "text": pa.string(),
}

Reasons = dict[int, str]  # why a row is bad, by its index


def value_kind(feature: FeatureInfo) -> str:
    """Return the type of a feature's values: a category of integers has integers."""
    if has_integer_categories(feature):
        return "integer"
    return feature.type


def column_type(feature: FeatureInfo) -> Any:
    """Return the Arrow type in which the values of a feature are read."""
    return ARROW_TYPES[value_kind(feature)]


def missing_texts(feature: FeatureInfo) -> list[str]:
    """Return the fields of CSV that stand for a missing value of a feature."""
    if column_type(feature) != pa.string():
        return NULL_VALUES  # nan is a number, which is a missing value if the feature is nullable
    if not feature.nullable:
        return []
    if feature.type == "text":
        return [""]
    return [text for text in NULL_VALUES + NAN_VALUES if text not in feature.categories]


def cast_column(column: Any, feature: FeatureInfo) -> Any:
    """Return a typed column as the values of a feature. Raises BatchError for another type."""
    target = column_type(feature)
    source = column.type
    if pa.types.is_dictionary(source):
        source = source.value_type
        column = column.cast(source)
    if not is_compatible(source, value_kind(feature)):
        expected = EXPECTED_COLUMNS[value_kind(feature)]
        raise BatchError(f"column {feature.name!r}: expected {expected}, got {column.type}")
    return column.cast(target, safe=False)  # decimals and integers may be rounded


def constant_column(feature: FeatureInfo, text: str | None, n_rows: int) -> Any:
    """Return a column with one value, which the name of a folder has. Raises BatchError."""
    try:
        value = pa.scalar(text, pa.string()).cast(column_type(feature))
    except pa.ArrowInvalid as error:
        reason = describe_bad_value(feature.name, value_kind(feature), repr(text))
        raise BatchError(f"the folder's name: {reason}") from error
    return pa.repeat(value, n_rows)


def is_compatible(source: Any, kind: str) -> bool:
    """Return whether a column of an Arrow type can have values of a kind."""
    if pa.types.is_null(source):
        return True
    if kind == "boolean":
        return bool(pa.types.is_boolean(source))
    if kind in ("number", "integer"):
        return bool(
            pa.types.is_integer(source)
            or pa.types.is_floating(source)
            or pa.types.is_decimal(source)
        )
    is_view = pa.types.is_string_view(source)  # polars writes these
    return bool(pa.types.is_string(source) or pa.types.is_large_string(source) or is_view)


def describe_bad_value(name: str, kind: str, value: Any) -> str:
    """Return what is wrong with a value of a column."""
    expected = EXPECTED_VALUES.get(kind, kind)
    if kind in ("number", "integer") and isinstance(value, float):
        expected = describe_bound(kind, value)
    return f"{name!r}: expected {expected}, got {str(value)[:MAX_QUOTED_LENGTH]}"


def describe_bound(kind: str, value: float) -> str:
    """Return what is expected instead of a number that a feature does not take."""
    if not np.isfinite(value):
        return "a finite number"
    if abs(value) > FLOAT32_MAX:
        return f"a number within {FLOAT32_MAX:.3g}"
    return "an integer within 2^53"


def build_rows(signature: Signature, columns: Sequence[Any], reasons: Reasons) -> Rows:
    """Return columns, one a feature in its `column_type`, as rows of shape (rows, features).

    Values that a feature does not take get a reason in `reasons`.
    """
    element_type = object
    if signature.is_numeric:
        element_type = float
    # One feature after the other in memory: each column is copied and searched as a whole.
    values = np.empty((len(columns), len(columns[0])), element_type)
    for index, (feature, column) in enumerate(zip(signature.features, columns, strict=True)):
        if column.null_count and not feature.nullable:
            for row in np.flatnonzero(column.is_null()).tolist():
                reason = describe_bad_value(feature.name, value_kind(feature), "null")
                reasons.setdefault(row, reason)
        values[index] = column_values(feature, column, reasons, signature.is_numeric)
    return values.T


def column_values(
    feature: FeatureInfo, column: Any, reasons: Reasons, is_numeric: bool
) -> NDArray[Any]:
    """Return the values of a column: floats, or Python values unless all features are numbers."""
    kind = value_kind(feature)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    if kind in ("number", "integer"):
        check_numbers(feature, values, reasons)
        if not is_numeric:
            return to_objects(values, kind)
    elif kind == "boolean" and is_numeric:
        numbers: NDArray[Any] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return numbers
    return values


def check_numbers(feature: FeatureInfo, values: NDArray[Any], reasons: Reasons) -> None:
    """Give a reason to each row whose number a feature does not take."""
    if is_within_bounds(feature, values):
        return
    kind = value_kind(feature)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= FLOAT32_MAX)
        if kind == "integer":
            bad |= (np.trunc(values) != values) | (np.abs(values) > MAX_INTEGER)
    if feature.nullable:
        bad &= ~np.isnan(values)
    for row in np.flatnonzero(bad).tolist():
        reasons.setdefault(row, describe_bad_value(feature.name, kind, float(values[row])))


def is_within_bounds(feature: FeatureInfo, values: NDArray[Any]) -> bool:
    """Return whether a column of plain numbers has no bad value; other columns need a look."""
    if value_kind(feature) == "integer" or feature.nullable:
        return False
    # A comparison with NaN is false, so NaN is found as well.
    return bool(values.max(initial=0) <= FLOAT32_MAX and values.min(initial=0) >= -FLOAT32_MAX)


def to_objects(values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return floats as Python values, with None for NaN."""
    objects = values.astype(object)
    if kind == "integer":
        finite = np.isfinite(values)
        objects[finite] = values[finite].astype(np.int64).astype(object)
    objects[np.isnan(values)] = None
    return objects


def find_failing_indices(
    attempt: Callable[[slice], Any], n: int, errors: tuple[type[Exception], ...]
) -> list[int]:
    """Return the indices of the n values for which `attempt` fails on a slice, by bisection."""
    failing = []
    spans = [slice(0, n)]
    while spans:
        span = spans.pop()
        try:
            attempt(span)
        except errors:
            middle = (span.start + span.stop) // 2
            if middle == span.start:
                failing.append(middle)
            else:
                spans.append(slice(span.start, middle))
                spans.append(slice(middle, span.stop))
    return failing
