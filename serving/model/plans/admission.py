"""The test that a plan has to pass before it is used: the answers of its estimator.

The rows are those of the training, and rows in which one feature has a value that is easy to get
wrong: at each threshold of the trees and beside it, in float64 and in float32, at the ends of
float32, missing, and every category, with one that training had not.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serving.model.arrays import Array, Rows
from serving.model.card import FeatureInfo
from serving.model.plans.columns import NoPlanError
from serving.model.plans.plan import FLOAT32_MAX, Plan
from serving.model.signature import Signature

# Of the probabilities, and relative to the predictions of a regressor.
TOLERANCE = 1e-9
# Rows that are asked one by one, which some predictors compute in another way.
MAX_SINGLE_ROWS = 1000
# Rows in which a feature is missing, or of a category that training had not.
MAX_DOUBTFUL_ROWS = 100

UNSEEN_TEXT = "\0"


def check_plan(plan: Plan, estimator: Any, signature: Signature, rows: Rows, max_rows: int) -> int:
    """Compare the plan with the estimator, and return the number of rows.

    At most `max_rows` are from `rows`, and about as many are made from them. Raises NoPlanError if
    the plan answers in another way, or where the estimator refuses.
    """
    methods = [(plan.predict, estimator.predict)]
    if plan.has_probabilities:
        methods.append((plan.probabilities, estimator.predict_proba))

    n_rows = 0
    with np.errstate(all="ignore"):  # numbers at the ends of float32 overflow
        for table in _tables(plan, signature, rows, max_rows):
            for plan_method, estimator_method in methods:
                _compare(plan_method, estimator_method, signature, table)
            n_rows += len(table)
    return n_rows


def _compare(
    plan_method: Callable[[Rows], Array | None],
    estimator_method: Callable[[Any], Any],
    signature: Signature,
    rows: Rows,
) -> None:
    answers = [_answers(plan_method, rows, step) for step in (1, 100, len(rows))]
    if all(answer is None for answer in answers):
        return
    try:
        expected = np.asarray(estimator_method(signature.to_input(rows)))
    except ValueError as error:
        raise NoPlanError("it answers where the estimator refuses") from error

    for answer in answers:
        if answer is not None and not _is_equal(answer, expected[: len(answer)]):
            raise NoPlanError("its answers differ from the estimator's")


def _answers(plan_method: Callable[[Rows], Array | None], rows: Rows, step: int) -> Array | None:
    """Return the answers for `rows`, asked with `step` at a time, or None if there is none."""
    if step < len(rows):
        rows = rows[: MAX_SINGLE_ROWS * step]
    answers = []
    for start in range(0, len(rows), step):
        answer = plan_method(rows[start : start + step])
        if answer is None:
            return None
        answers.append(answer)
    return np.concatenate(answers)


def _is_equal(answer: Array, expected: Array) -> bool:
    if answer.shape != expected.shape or answer.dtype.kind != expected.dtype.kind:
        return False
    if expected.dtype.kind != "f":
        return np.array_equal(answer, expected)
    return np.allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _tables(plan: Plan, signature: Signature, rows: Rows, max_rows: int) -> Iterator[Rows]:
    """Yield rows to compare; those that an estimator may refuse are apart."""
    yield rows[:max_rows]

    split_points = plan.split_points()
    changes: list[tuple[int, Any]] = []
    for index in range(rows.shape[1]):
        feature = signature.features[index] if signature.features else FeatureInfo(name="")
        for value in _ordinary_values(feature, split_points.get(index, [])):
            changes.append((index, value))
        for value in _doubtful_values(feature):
            some_rows = rows[:: len(rows) // MAX_DOUBTFUL_ROWS + 1]
            yield _changed(some_rows, [(index, value)] * len(some_rows))

    if len(changes) > max_rows:
        chosen = np.random.default_rng(0).choice(len(changes), max_rows, replace=False)
        changes = [changes[position] for position in chosen.tolist()]
    if changes:
        yield _changed(rows, changes)


def _changed(rows: Rows, changes: list[tuple[int, Any]]) -> Rows:
    """Return a row for each change, of the given rows in turn."""
    table = rows[np.arange(len(changes)) % len(rows)]
    for row, (index, value) in zip(table, changes, strict=True):
        row[index] = value
    return table


def _ordinary_values(feature: FeatureInfo, split_points: list[float]) -> list[Any]:
    if feature.type == "category":
        return list(feature.categories)
    if feature.type == "boolean":
        return [False, True]
    if feature.type == "text":
        return []

    points = np.array([-FLOAT32_MAX, 0.0, FLOAT32_MAX, *split_points])
    single = points.astype(np.float32)
    values = [points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf), single]
    values += [np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))]
    numbers = np.unique(np.concatenate(values).astype(np.float64))
    numbers = numbers[np.abs(numbers) <= FLOAT32_MAX]
    if feature.type == "integer":
        numbers = numbers[np.abs(numbers) <= 2.0**53]
        numbers = np.unique(np.concatenate([np.floor(numbers), np.ceil(numbers)]))
        return [int(number) for number in numbers]
    return numbers.tolist()  # type: ignore[no-any-return]


def _doubtful_values(feature: FeatureInfo) -> list[Any]:
    values: list[Any] = []
    if feature.nullable:
        values.append(None)
    if feature.type == "category":
        numbers = [value for value in feature.categories if isinstance(value, int)]
        values.append(max(numbers) + 1 if numbers else UNSEEN_TEXT)
    return values
