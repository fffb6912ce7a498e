"""Columns: what a pipeline makes of each feature, as it is found out when a plan is built.

A column is computed step by step from the number of one feature, or looked up for its value.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serving.model.arrays import Floats

# A function of the numbers and of an operand, in the order of the transformer's own arithmetic.
Function = Callable[[Any, Any], Any]
Step = tuple[Function, float]


INVERSES: dict[Function, Function] = {
    np.add: np.subtract,
    np.divide: np.multiply,
    np.multiply: np.divide,
    np.subtract: np.add,
}


def fill_missing(numbers: Floats, replacement: Floats) -> Floats:
    """Return `numbers` with `replacement` for each NaN."""
    return np.where(np.isnan(numbers), replacement, numbers)


@dataclass(frozen=True)
class NumberColumn:
    """The number of the feature `source`, after `steps`."""

    source: int
    steps: tuple[Step, ...] = ()

    def after(self, *steps: Step) -> "NumberColumn":
        """Return the column after further steps."""
        return replace(self, steps=self.steps + steps)

    def value_before(self, number: float) -> float:
        """Return a value of the feature that becomes `number`, or about so."""
        for function, operand in reversed(self.steps):
            if function in INVERSES:
                number = float(INVERSES[function](number, operand))
        return number


@dataclass(frozen=True, eq=False)
class LookupColumn:
    """A number for each value of the feature `source`.

    `numbers` are those of `values`, then that of any other value, then that of a missing one.
    `refused` tells of the last two whether the transformer refuses them.
    """

    source: int
    values: tuple[Any, ...]
    numbers: Floats
    refused: tuple[bool, bool]

    def after(self, *steps: Step) -> "LookupColumn":
        """Return the column after further steps."""
        numbers = self.numbers
        for function, operand in steps:
            numbers = function(numbers, operand)
        return replace(self, numbers=numbers)


@dataclass(frozen=True)
class CategoryColumn:
    """The category of the feature `source`, not yet encoded; a missing one is `missing_as`."""

    source: int
    missing_as: Any = None


Column = NumberColumn | LookupColumn | CategoryColumn


class NoPlanError(Exception):
    """The estimator has no plan; the message says why."""


def is_of_sklearn(estimator: Any) -> bool:
    """Return whether the class of `estimator` is scikit-learn's own, and not derived from one."""
    return type(estimator).__module__.startswith("sklearn.")
