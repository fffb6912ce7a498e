"""Columns of features: Arrow columns in, the rows that the model takes out, as its signature says.

A value that a feature does not take is a reason for its row to be bad.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from serving.api.values import MAX_INTEGER
from serving.batch.stats import BatchError
from serving.model.arrays import Rows
from serving.model.card import FeatureInfo
from serving.model.model import FLOAT32_MAX
from serving.model.signature import Signature, has_integer_categories

MAX_QUOTED_LENGTH = 100  # characters of a value in a message

Reasons = dict[int, str]  # why a row is bad, by its index


class ValueKind(msgspec.Struct, frozen=True):
    """How values are read: their Arrow type, the types of columns they may be in, their names."""

    arrow_type: Any
    column_types: tuple[Callable[[Any], bool], ...]
    one_value: str
    values: str


NUMBER_TYPES = (types.is_integer, types.is_floating, types.is_decimal)
STRING_TYPES = (types.is_string, types.is_large_string, types.is_string_view)
STRING = ValueKind(pa.string(), STRING_TYPES, "a string", "strings")
KINDS = {
    "number": ValueKind(pa.float64(), NUMBER_TYPES, "a number", "numbers"),
    "integer": ValueKind(pa.float64(), NUMBER_TYPES, "an integer", "numbers"),
    "boolean": ValueKind(pa.bool_(), (types.is_boolean,), "true or false", "booleans"),
    "category": STRING,
    "text": STRING,
}


def value_kind(feature: FeatureInfo) -> ValueKind:
    """Return the kind of a feature's values: a category of integers has integers."""
    if has_integer_categories(feature):
        return KINDS["integer"]
    return KINDS[feature.type]


def cast_column(column: Any, feature: FeatureInfo) -> Any:
    """Return a typed column as the values of a feature. Raises BatchError for another type."""
    kind = value_kind(feature)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column_type = column.type
    if not any(accepts(column_type) for accepts in (types.is_null, *kind.column_types)):
        raise BatchError(f"column {feature.name!r}: expected {kind.values}, got {column_type}")
    return column.cast(kind.arrow_type, safe=False)  # decimals and integers may be rounded


def describe_bad_value(name: str, expected: str, value: Any) -> str:
    """Return what is wrong with a value of a column."""
    return f"{name!r}: expected {expected}, got {str(value)[:MAX_QUOTED_LENGTH]}"


def describe_bound(value: float) -> str:
    """Return what is expected instead of a number that a feature does not take."""
    if not np.isfinite(value):
        return "a finite number"
    if abs(value) > FLOAT32_MAX:
        return f"a number within {FLOAT32_MAX:.3g}"
    return "an integer within 2^53"


def build_rows(signature: Signature, columns: Sequence[Any], reasons: Reasons) -> Rows:
    """Return columns, one a feature in its Arrow type, as rows of shape (rows, features).

    Values that a feature does not take get a reason in `reasons`.
    """
    element_type = object
    if signature.is_numeric:
        element_type = float
    # One feature after the other in memory: each column is copied and searched as a whole.
    rows = np.empty((len(columns), len(columns[0])), element_type)
    for index, (feature, column) in enumerate(zip(signature.features, columns, strict=True)):
        if column.null_count and not feature.nullable:
            reason = describe_bad_value(feature.name, value_kind(feature).one_value, "null")
            for row in np.flatnonzero(column.is_null()).tolist():
                reasons.setdefault(row, reason)
        if signature.is_numeric:
            column = column.cast(pa.float64())

        values = column.to_numpy(zero_copy_only=False)
        if types.is_floating(column.type):
            check_numbers(feature, values, reasons)
            if not signature.is_numeric:
                values = to_objects(feature, values)
        rows[index] = values
    return rows.T


def check_numbers(feature: FeatureInfo, values: NDArray[Any], reasons: Reasons) -> None:
    """Give a reason to each row whose number a feature does not take."""
    is_bad = ~(np.abs(values) <= FLOAT32_MAX)  # NaN is not within any bound
    if value_kind(feature) is KINDS["integer"]:
        is_bad |= (np.trunc(values) != values) | (np.abs(values) > MAX_INTEGER)
    if feature.nullable:
        is_bad &= ~np.isnan(values)
    for row in np.flatnonzero(is_bad).tolist():
        value = float(values[row])
        reasons.setdefault(row, describe_bad_value(feature.name, describe_bound(value), value))


def to_objects(feature: FeatureInfo, values: NDArray[Any]) -> NDArray[Any]:
    """Return floats as Python values, with None for NaN."""
    objects = values.astype(object)
    if value_kind(feature) is KINDS["integer"]:
        finite = np.isfinite(values)
        objects[finite] = values[finite].astype(np.int64).astype(object)
    objects[np.isnan(values)] = None
    return objects


def find_failing_indices(
    attempt: Callable[[slice], Any], n: int, error_type: type[Exception]
) -> list[int]:
    """Return the indices of the n values for which `attempt` fails on a slice, by bisection."""
    failing = []
    spans = [slice(0, n)]
    while spans:
        span = spans.pop()
        try:
            attempt(span)
        except error_type:
            middle = (span.start + span.stop) // 2
            if middle == span.start:
                failing.append(middle)
            else:
                spans.append(slice(span.start, middle))
                spans.append(slice(middle, span.stop))
    return failing
