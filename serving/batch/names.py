"""Names of columns: which one is meant for which feature."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from serving.batch.stats import BatchError

MAX_LISTED_LENGTH = 300  # characters of the column names in a message

UNIT = re.compile(r"[(\[]([^)\]]*)[)\]]\s*$")  # at the end of a name, in brackets


def match_features(features: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the name of the column of each feature that has one.

    A name that differs in case, punctuation or a unit that only one of the two has is matched if
    no other column and no other feature could be meant.
    """
    matches = {feature: feature for feature in features if feature in names}
    candidates: dict[str, list[str]] = {}
    for feature in features:
        if feature not in matches:
            others = [name for name in names if name not in matches.values()]
            candidates[feature] = [name for name in others if is_similar(feature, name)]

    usage = Counter(name for similar in candidates.values() for name in similar)
    for feature, similar in candidates.items():
        if len(similar) == 1 and usage[similar[0]] == 1:
            matches[feature] = similar[0]
    return matches


def is_similar(feature: str, name: str) -> bool:
    """Return whether two names differ in case, punctuation or a unit that one of them lacks."""
    if letters(feature) == letters(name):
        return bool(letters(name))
    feature_unit = UNIT.search(feature)
    unit = UNIT.search(name)
    if feature_unit and unit:  # another unit is another quantity
        return False
    return letters(UNIT.sub("", feature)) == letters(UNIT.sub("", name)) != ""


def letters(name: str) -> str:
    """Return the letters and digits of a name, without their case."""
    return "".join(filter(str.isalnum, name.casefold()))


def describe_missing(missing: Sequence[str], names: Sequence[str]) -> str:
    """Return which columns are missing, each with the name that is nearest to it."""
    described = []
    for name in missing:
        nearest = difflib.get_close_matches(name, names, 1)
        described.append(repr(name))
        if nearest:
            described[-1] += f" (nearest: {nearest[0]!r})"
    word = "columns" if len(missing) > 1 else "column"
    found = ", ".join(map(repr, names))[:MAX_LISTED_LENGTH]
    return f"missing {word} {', '.join(described)}; found {found}"


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names of columns, with its place in one that is empty or occurred before."""
    unique: list[str] = []
    for index, name in enumerate(names):
        if not name.strip() or name in unique:
            name = f"{name.strip() or 'column'}_{index + 1}"
        unique.append(name)
    return unique


def rename_columns(names: Iterable[str], renames: Mapping[str, str]) -> list[str]:
    """Return the names with the new ones in place of the old. Raises BatchError."""
    names = list(names)
    for old in renames:
        if old not in names:
            raise BatchError(f"--rename: {describe_missing([old], names)}")
    return [renames.get(name, name) for name in names]
