"""What a batch job counts: rows, bad rows, predictions and bins, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class BatchError(Exception):
    """An error that ends a job; the message is one line."""


class OutputError(Exception):
    """The output cannot be written; the message does not name it."""


class BadRow(NamedTuple):
    """A row that cannot be scored; `row` is counted from 0, `line` from 1."""

    row: int
    line: int | None  # Parquet has no lines
    reason: str

    def __str__(self) -> str:
        """Return the row as text, counted from 1."""
        if self.line is None:
            return f"row {self.row + 1}: {self.reason}"
        return f"row {self.row + 1} (line {self.line}): {self.reason}"


@dataclass
class BatchStats:
    """Counts of a block, a file or a job.

    `bad_rows` holds the bad rows of one block until they are written; `n_bad` and `first_bad_row`
    outlive them. `prediction_counts`, by class or by bin of a number, and `feature_counts`, by bin,
    are arrays, or 0 before the first block.
    """

    rows: int = 0
    lines: int = 0
    n_bad: int = 0
    first_bad_row: BadRow | None = None
    prediction_counts: Any = 0
    feature_counts: Any = 0
    bad_rows: Sequence[BadRow] = ()
    notes: Sequence[str] = ()  # what was guessed about the input

    def set_bad_rows(self, bad_rows: Sequence[BadRow]) -> None:
        """Set and count the bad rows of a block."""
        self.bad_rows = bad_rows
        self.n_bad = len(bad_rows)
        self.first_bad_row = bad_rows[0] if bad_rows else None

    def to_global_row(self, bad_row: BadRow) -> BadRow:
        """Return a bad row of the block after these rows, with its place in the whole."""
        line = None
        if bad_row.line is not None:
            line = self.lines + bad_row.line
        return BadRow(self.rows + bad_row.row, line, bad_row.reason)

    def add(self, other: "BatchStats") -> None:
        """Add the counts of the rows after these."""
        if other.first_bad_row and not self.first_bad_row:
            self.first_bad_row = self.to_global_row(other.first_bad_row)
        self.notes = self.notes or other.notes
        self.rows += other.rows
        self.lines += other.lines
        self.n_bad += other.n_bad
        self.prediction_counts = self.prediction_counts + other.prediction_counts
        self.feature_counts = self.feature_counts + other.feature_counts
