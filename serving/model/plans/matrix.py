"""The matrix that the last step of a pipeline is asked with, from the rows of the service."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.arrays import Floats, Rows
from serving.model.plans.columns import (
    Column,
    LookupColumn,
    NoPlanError,
    NumberColumn,
    step_function,
)


def _places(outputs: list[int]) -> slice | NDArray[np.intp]:
    """Return the columns at `outputs` as a slice, which numpy handles faster, if they are one."""
    if outputs == list(range(outputs[0], outputs[-1] + 1)):
        return slice(outputs[0], outputs[-1] + 1)
    return np.array(outputs)


class NumberBlock:
    """Columns that are computed from numbers by the same functions."""

    def __init__(
        self, outputs: list[int], columns: list[NumberColumn], functions: tuple[str, ...]
    ) -> None:
        self.outputs = _places(outputs)
        self.sources = _places([column.source for column in columns])
        self.steps: list[tuple[Callable[[Any, Any], Any], Floats]] = []
        for position, function in enumerate(functions):
            operands = np.array([column.steps[position][1] for column in columns])
            self.steps.append((step_function(function), operands))

    def fill(self, matrix: Floats, rows: Rows) -> bool:
        """Write the columns into `matrix`, and return whether they are known."""
        numbers = rows[:, self.sources].astype(np.float64)
        for function, operands in self.steps:
            numbers = function(numbers, operands)
        matrix[:, self.outputs] = numbers
        return True


class LookupBlock:
    """Columns that are looked up for the value of one feature."""

    def __init__(
        self, outputs: list[int], columns: list[LookupColumn], *, unseen_is_missing: bool
    ) -> None:
        first = columns[0]
        self.outputs = _places(outputs)
        self.source = first.source
        self.table = np.column_stack([column.numbers for column in columns])

        n_values = len(first.values)
        self.unseen = n_values + 1 if unseen_is_missing else n_values
        self.indices: dict[Any, int] = {value: index for index, value in enumerate(first.values)}
        self.indices[None] = n_values + 1
        self.refused = frozenset(
            n_values + index for index, is_refused in enumerate(first.refused) if is_refused
        )

    def fill(self, matrix: Floats, rows: Rows) -> bool:
        """Write the columns into `matrix`, and return whether the transformer takes the values."""
        if len(rows) == 1 and rows.dtype == object:
            index = self.indices.get(rows[0, self.source], self.unseen)
            matrix[0, self.outputs] = self.table[index]
            return index not in self.refused

        values = rows[:, self.source].tolist()
        if rows.dtype != object:
            values = [None if value != value else value for value in values]
        indices = [self.indices.get(value, self.unseen) for value in values]
        if not self.refused.isdisjoint(indices):
            return False
        matrix[:, self.outputs] = self.table[indices]
        return True


class MatrixBuilder:
    """Builds the matrix of a pipeline's columns."""

    def __init__(self, columns: Sequence[Column], unseen_is_missing: frozenset[int]) -> None:
        self.n_columns = len(columns)
        self.blocks: list[NumberBlock | LookupBlock] = []

        numbers: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        lookups: defaultdict[Any, list[int]] = defaultdict(list)
        for output, column in enumerate(columns):
            if isinstance(column, NumberColumn):
                numbers[tuple(function for function, _ in column.steps)].append(output)
            elif isinstance(column, LookupColumn):
                lookups[column.source, column.values, column.refused].append(output)
            else:
                raise NoPlanError("a category that is not encoded")

        for functions, outputs in numbers.items():
            number_columns: list[Any] = [columns[output] for output in outputs]
            self.blocks.append(NumberBlock(outputs, number_columns, functions))
        for (source, _, _), outputs in lookups.items():
            lookup_columns: list[Any] = [columns[output] for output in outputs]
            self.blocks.append(
                LookupBlock(outputs, lookup_columns, unseen_is_missing=source in unseen_is_missing)
            )

    def build(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return the matrix of `rows`, or None if a transformer refuses a value."""
        matrix = np.empty((len(rows), self.n_columns))
        for block in self.blocks:
            if not block.fill(matrix, rows):
                return None
        return matrix
