"""Values in fields of CSV, by the same rule as in a request: serving/api/values.py."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from serving.api.values import BOOLEANS, MISSING_VALUES, TEXT_NUMBER, missing_values
from serving.batch.features import value_kind
from serving.model.card import FeatureInfo

NAN_WORDS = frozenset({"nan", "-nan", "+nan"})  # numbers, which are missing if a feature allows it
NULL_WORDS = sorted(MISSING_VALUES - NAN_WORDS)
TRUE_WORDS = [word for word, value in BOOLEANS.items() if value]
NUMBER = f"(?i)^({TEXT_NUMBER.pattern}|[-+]?(nan|inf|infinity))$"


def spellings(words: Iterable[str]) -> list[str]:
    """Return words as they are mostly written: the parser compares them with their case."""
    return [spelling for word in words for spelling in {word, word.upper(), word.capitalize()}]


# What the parser reads at once. A block with any other value is read again, column by column.
PARSER_WORDS = {
    "null_values": spellings(NULL_WORDS),
    "true_values": spellings(TRUE_WORDS),
    "false_values": spellings(BOOLEANS.keys() - TRUE_WORDS),
}


def read_values(texts: Any, feature: FeatureInfo, decimal: str = ".") -> tuple[Any, Any]:
    """Return the values of a column of texts, null where there is none, and where a text is bad."""
    texts = pc.utf8_trim_whitespace(texts)
    words = pc.utf8_lower(texts)
    missing_words = {*NULL_WORDS, *missing_values(feature)}
    if value_kind(feature).arrow_type == pa.bool_():
        is_valid = pc.is_in(words, pa.array(list(BOOLEANS)))
        values = pc.is_in(words, pa.array(TRUE_WORDS))
    else:
        missing_words -= NAN_WORDS
        is_valid = pc.match_substring_regex(texts, NUMBER.replace(r"\.", f"[{decimal}]"))
        numbers = pc.if_else(is_valid, pc.replace_substring(texts, decimal, "."), None)
        values = numbers.cast(pa.float64())

    is_missing = pc.is_in(words, pa.array([*missing_words, None], pa.string()))
    return pc.if_else(is_valid, values, None), pc.invert(pc.or_kleene(is_valid, is_missing))


def nullify_missing(column: Any, feature: FeatureInfo) -> Any:
    """Return a column of strings with null for each that stands for a missing value."""
    column = pc.utf8_ltrim(column, " ")  # a request's reader skips white space after a delimiter
    words = missing_values(feature)
    if not words:
        return column
    is_missing = pc.is_in(pc.ascii_lower(pc.utf8_trim_whitespace(column)), pa.array(sorted(words)))
    return pc.if_else(is_missing, None, column)
