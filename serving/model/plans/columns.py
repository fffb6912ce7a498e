"""Columns: what a pipeline makes of each feature, as it is found out when a plan is built.

A column is computed step by step from the number of one feature, or looked up for its value.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serving.model.arrays import Floats

# A step of a transformer's own arithmetic: the name of a function of numpy, or FILL_MISSING, and
# its second argument, which is not used if it takes one.
Step = tuple[str, float]
FILL_MISSING = "fill_missing"

INVERSES = {"add": "subtract", "divide": "multiply", "multiply": "divide", "subtract": "add"}


def step_function(name: str) -> Callable[[Any, Any], Any]:
    """Return the function of a step: of the numbers, and of its second argument.

    Raises ValueError unless it is an element-wise function of numpy, which only computes.
    """
    if name == FILL_MISSING:
        return _fill_missing
    function = getattr(np, name, None)
    if not isinstance(function, np.ufunc):
        raise ValueError(f"{name} is no step of a plan")
    if function.nargs == 3:
        return function
    return lambda numbers, _: function(numbers)


def _fill_missing(numbers: Floats, replacement: Floats) -> Floats:
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
                number = float(step_function(INVERSES[function])(number, operand))
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
            numbers = step_function(function)(numbers, operand)
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
