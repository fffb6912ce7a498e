"""The columns of fitted encoders of categories, found by asking them for each category.

An encoder has many options (a category to drop, rare ones put together, what becomes of one that
training had not), and treats each column on its own: its answers are the table of a lookup.
"""

import warnings
from typing import Any

import numpy as np

from serving.model.arrays import Array, Floats
from serving.model.plans.columns import (
    FILL_MISSING,
    CategoryColumn,
    Column,
    LookupColumn,
    NoPlanError,
    NumberColumn,
)

# A text that is no category, because people do not write it.
UNSEEN_TEXT = "\0"
# Numbers in the table of a feature: 8 MB.
MAX_TABLE_NUMBERS = 1_000_000


def encoded_columns(encoder: Any, columns: list[Column]) -> list[Column]:
    """Return the columns that an encoder makes of `columns`, each with a number for each value."""
    known = [_known_values(categories) for categories in encoder.categories_]
    base_row = [values[0] for values in known]
    base = _encode(encoder, [base_row])
    if max(map(len, known)) * base.size > MAX_TABLE_NUMBERS:
        raise NoPlanError("an encoder of so many categories that its table would be large")

    made: list[Column | None] = [None] * base.shape[1]
    for index, column in enumerate(columns):
        missing = None if None in encoder.categories_[index].tolist() else np.nan
        others = (_unseen_value(known[index]), _missing_value(column, missing))
        tables = [_encode(encoder, [_changed(base_row, index, value) for value in known[index]])]
        refused = []
        for value in others:
            encoded = _encode_if_possible(encoder, _changed(base_row, index, value))
            refused.append(encoded is None)
            tables.append(base if encoded is None else encoded)

        table = np.concatenate(tables)
        # What depends on no feature is left to the first one.
        depends = (table != base).any(axis=0) | (index == 0)
        for output in np.flatnonzero(depends):
            made[output] = LookupColumn(
                column.source, tuple(known[index]), table[:, output], (refused[0], refused[1])
            )
    return [column for column in made if column is not None]


def _known_values(categories: Array) -> list[Any]:
    """Return the categories but for the missing one."""
    known = [value for value in categories.tolist() if value is not None and value == value]
    if not known:
        raise NoPlanError("an encoder of a feature without any value")
    return known


def _missing_value(column: Column, missing: Any) -> Any:
    """Return what the encoder is asked with for a missing value of `column`."""
    if isinstance(column, CategoryColumn):
        return missing if column.missing_as is None else column.missing_as
    if isinstance(column, NumberColumn):
        if not column.steps:
            return missing
        [(function, operand), *others] = column.steps
        if function == FILL_MISSING and not others:
            return operand
    raise NoPlanError("an encoder after another transformer")


def _unseen_value(known: list[Any]) -> Any:
    if isinstance(known[0], str):
        return UNSEEN_TEXT
    return max(known) + 1


def _encode_if_possible(encoder: Any, row: list[Any]) -> Floats | None:
    """Return the encoded row, or None if the encoder refuses it."""
    try:
        return _encode(encoder, [row])
    except ValueError:
        return None


def _changed(row: list[Any], index: int, value: Any) -> list[Any]:
    return [*row[:index], value, *row[index + 1 :]]


def _encode(encoder: Any, rows: list[list[Any]]) -> Floats:
    values = np.array(rows, dtype=object)
    if all(categories.dtype.kind in "fiu" for categories in encoder.categories_):
        values = values.astype(np.float64)
    with warnings.catch_warnings():
        # An unknown category is what is asked about, and the names were checked by position.
        warnings.simplefilter("ignore", UserWarning)
        encoded = encoder.transform(values)
    if hasattr(encoded, "toarray"):
        encoded = encoded.toarray()
    return np.asarray(encoded, dtype=np.float64)
