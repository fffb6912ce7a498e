"""The JSON types of a feature's values, and what a field of CSV stands for."""

import re
from typing import Annotated, Any

from msgspec import Meta

from serving.api.json_body import Number
from serving.model.card import FeatureInfo
from serving.model.signature import has_integer_categories

# Every integer up to here is a float64, which is what an array consists of.
MAX_INTEGER = 2**53
# JSON has one type of number: a client may write 3 as 3.0.
Integer = Annotated[float, Meta(multiple_of=1, ge=-MAX_INTEGER, le=MAX_INTEGER)]

# What any row may hold; `value_type` says what a feature may.
AnyValue = Number | bool | str | None


def value_type(feature: FeatureInfo) -> Any:
    """Return the type to which msgspec decodes a value of `feature`."""
    types: dict[str, Any] = {
        "number": Number,
        "integer": Integer,
        "boolean": bool,
        "category": str,
        "text": str,
    }
    json_type = types[feature.type]
    if feature.type == "category":
        if has_integer_categories(feature):
            json_type = Integer
        # Not an enumeration: the estimator decides what becomes of a category it has not seen.
        json_type = Annotated[json_type, Meta(examples=list(feature.categories))]
    if feature.nullable:
        return json_type | None
    return json_type


# What other programs write for numbers and JSON does not allow: .5, 5., +5.1 and 05.1.
TEXT_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)

# What they write for a missing value, and for a boolean, in any case.
MISSING_VALUES = frozenset({"", "nan", "-nan", "+nan", "na", "n/a", "#n/a", "<na>", "null", "none"})
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def missing_values(feature: FeatureInfo) -> frozenset[str]:
    """Return the fields of CSV, in lower case, that stand for a missing value of `feature`."""
    if not feature.nullable:
        return frozenset()
    if feature.type == "text":  # in which these words may be meant
        return frozenset({""})
    categories = {str(category).lower() for category in feature.categories}
    return MISSING_VALUES - categories


def read_number(text: str) -> float | str:
    """Return the number in a field of CSV, or the text itself if it is no number."""
    stripped = text.strip()
    if TEXT_NUMBER.fullmatch(stripped):
        return float(stripped)
    return text


def parse_csv_field(text: str, feature: FeatureInfo | None) -> bool | float | str | None:
    """Return the value of a field, which may be text still, or None for a missing value.

    `feature` is None for a column that the model does not have.
    """
    if feature is None:
        return text
    normalized = text.strip().lower()
    if normalized in MISSING_VALUES and normalized in missing_values(feature):
        return None
    if feature.type == "boolean":
        return BOOLEANS.get(normalized, text)
    if has_numbers(feature):
        return read_number(text)
    return text


def has_numbers(feature: FeatureInfo) -> bool:
    """Return whether the values of a feature are numbers, as categories may be."""
    return feature.type in ("number", "integer") or has_integer_categories(feature)
