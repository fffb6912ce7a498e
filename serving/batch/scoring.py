"""Tables scored: blocks of CSV and tables of Arrow in, the same with answers out, and where rows are bad."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from serving.model.errors import InvalidInput, ModelError
from serving.model.model import FLOAT32_MAX, Floats, Model
from serving.monitoring.drift import FeatureBins

SNAPPY = "snappy"


class BatchError(Exception):
    """What ends a job; the text is one line that says where and why."""


@dataclass
class BatchStats:
    """What was seen: rows, ends of line, bad rows, the first of these, rows of each class, values in each bin.

    A bad row is (row from 0, line or None, reason); those of one block are in `reasons`, until they are written down.
    """

    rows: int = 0
    lines: int = 0
    n_bad: int = 0
    first_bad_row: tuple[int, int | None, str] | None = None
    classes: Any = 0
    bin_counts: Any = 0
    bad_rows: Sequence[tuple[int, int | None, str]] = ()

    def to_global_row(self, bad: tuple[int, int | None, str]) -> tuple[int, int | None, str]:
        """Return a bad row of what comes after this as one of the whole."""
        row, line, reason = bad
        return self.rows + row, None if line is None else self.lines + line, reason

    def add(self, other: "BatchStats") -> None:
        """Count what comes after this."""
        if other.first_bad_row and not self.first_bad_row:
            self.first_bad_row = self.to_global_row(other.first_bad_row)
        self.rows, self.lines, self.n_bad = (
            self.rows + other.rows,
            self.lines + other.lines,
            self.n_bad + other.n_bad,
        )
        self.classes, self.bin_counts = (
            self.classes + other.classes,
            self.bin_counts + other.bin_counts,
        )


class Scorer:
    """A model and what is asked of it."""

    def __init__(self, model: Model, on_error: str, proba: bool, keep: list[str] | None) -> None:
        if model.card is None:
            raise ModelError("the model has no card, and columns are found by the names in it")
        if proba and not model.has_probabilities:
            raise ModelError("--proba: this model has no probabilities")
        if model.predict(np.array([model.card.reference[0].features])).ndim != 1:
            raise ModelError(
                "the model has several answers for a row, and a table has a column for one"
            )
        self.model, self.on_error, self.proba, self.keep = model, on_error, proba, keep
        self.metadata = {b"model_version": model.version.encode()}
        self.bins = FeatureBins([feature.edges for feature in model.card.features])
        classes = model.classes.tolist() if isinstance(model.classes, np.ndarray) else []
        self.values, self.labels = (
            pa.array(classes),
            pa.array(list(model.labels.values()), pa.string()),
        )
        self.output_columns = ["prediction", *["label"] * bool(classes)]
        self.output_columns += [f"probability_{label}" for label in model.labels.values()] * proba
        # What a line of CSV gains for each class, and, last, for none.
        self.csv_suffix_by_class = pa.array(
            [*(format_csv_row(pair) for pair in model.labels.items()), ","]
        )

    def check(self, names: list[str]) -> None:
        """Raise Refused unless a table with columns of these names can be scored."""
        if len(set(names)) < len(names):
            name = next(name for name in names if names.count(name) > 1)
            raise BatchError(f"column {name!r} is there {names.count(name)} times")
        if missing := [
            name for name in [*self.model.features, *(self.keep or [])] if name not in names
        ]:
            raise BatchError(
                f"no column {missing[0]!r}; there are {', '.join(map(repr, names))[:300]}"
            )
        if taken := set(self.output_columns).intersection(
            names if self.keep is None else self.keep
        ):
            raise BatchError(f"column {min(taken)!r} is there already: --keep the others")

    def rows(self, columns: list[Any], bad: dict[int, str]) -> Floats:
        """Return columns of float64 as rows, of shape (rows, features); null is NaN there, and a reason in `bad`."""
        rows = np.empty(
            (len(columns), len(columns[0]))
        )  # column after column: each is copied as one, and searched
        for j, column in enumerate(columns):
            rows[j] = column.to_numpy(zero_copy_only=False)
            for i in np.flatnonzero(column.is_null()) if column.null_count else ():
                bad.setdefault(int(i), self.describe_bad_value(self.model.features[j], "null"))
        return rows.T

    def answer(
        self, rows: Floats, bad: dict[int, str]
    ) -> tuple[dict[str, Any], NDArray[np.bool_], BatchStats]:
        """Return the columns that are added to rows, of shape (rows, features), and which rows have their place there.

        A bad row, of which `bad` says what is known already, is null there, or has no place where such are skipped.
        """
        if not (
            rows.max(initial=0) <= FLOAT32_MAX and rows.min(initial=0) >= -FLOAT32_MAX
        ):  # NaN is neither
            for i, j in np.argwhere(~(np.abs(rows) <= FLOAT32_MAX)).tolist():
                bad.setdefault(
                    i, self.describe_bad_value(self.model.features[j], float(rows[i, j]))
                )
        good = np.ones(len(rows), bool)
        good[list(bad)] = False
        some = rows[good] if bad else rows
        try:
            prediction, probabilities = self._ask(some)
        except InvalidInput:
            found = find_failing_indices(lambda these: self._ask(some[these]), len(some))
            return self.answer(
                rows,
                bad | dict.fromkeys(np.flatnonzero(good)[found].tolist(), "the model refuses it"),
            )

        def spread(values: NDArray[Any]) -> Any:
            if not bad or self.on_error == "skip":
                return pa.array(values)
            full = np.zeros(len(rows), values.dtype)
            full[good] = values
            return pa.array(full, mask=~good)

        answers, counts = {}, np.zeros(0, np.int64)
        if len(self.values):
            codes = np.searchsorted(np.asarray(self.model.classes), prediction)
            counts = np.bincount(codes, minlength=len(self.values))
            indices = spread(codes.astype(np.int8 if len(self.values) < 128 else np.int32))
            answers["prediction"] = self.values.take(indices)
            answers["label"] = pa.DictionaryArray.from_arrays(indices, self.labels)
        else:
            answers["prediction"] = spread(prediction)
        answers |= dict(zip(self.output_columns[2:], map(spread, probabilities.T), strict=True))
        reasons = [(row, None, bad[row]) for row in sorted(bad)]
        placed = good if self.on_error == "skip" else np.ones(len(rows), bool)
        return (
            answers,
            placed,
            BatchStats(
                len(rows), classes=counts, bin_counts=self.bins.counts(some), bad_rows=reasons
            ),
        )

    def _ask(self, rows: Floats) -> tuple[NDArray[Any], Floats]:
        if not len(
            rows
        ):  # scikit-learn refuses none; the first row of the reference says what they would have been
            prediction, probabilities = self._ask(np.array([self.model.card.reference[0].features]))  # type: ignore[union-attr]
            return prediction[:0], probabilities[:0]
        no_columns = np.empty((len(rows), 0))
        return self.model.predict(rows), self.model.probabilities(
            rows
        ) if self.proba else no_columns

    def csv_suffixes(self, answers: dict[str, Any]) -> list[Any]:
        """Return the added columns as a line of CSV has them."""
        if not len(self.values):
            return [answers["prediction"].cast(pa.string())]
        first = self.csv_suffix_by_class.take(answers["label"].indices.fill_null(len(self.values)))
        return [first, *(answers[name].cast(pa.string()) for name in self.output_columns[2:])]

    def describe_bad_value(self, name: str, got: float | str) -> str:
        """Return what is wrong with a value of a column."""
        expected = "a number" if name in self.model.features else "UTF-8"
        if isinstance(got, float):
            expected = (
                f"a number within {FLOAT32_MAX:.3g}" if np.isfinite(got) else "a finite number"
            )
        return f"{name!r}: expected {expected}, got {str(got)[:100]}"


class ArrowScorer:
    """Scores tables."""

    def __init__(self, scorer: Scorer, schema: Any, facts: Any) -> None:
        scorer.check(schema.names)
        self.metadata = (schema.metadata or {}) | scorer.metadata
        self.compression = (
            facts.row_group(0).column(0).compression if facts.num_row_groups else SNAPPY
        )
        self.feature_types = {}
        for name in scorer.model.features:
            kind = schema.field(name).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (
                pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            ):
                raise BatchError(f"column {name!r}: expected numbers, got {kind}")
            self.feature_types[name] = kind
        self.scorer, self.passthrough_columns = (
            scorer,
            schema.names if scorer.keep is None else scorer.keep,
        )
        self.columns = list(dict.fromkeys([*self.passthrough_columns, *scorer.model.features]))

    def __call__(self, table: Any) -> tuple[Any, BatchStats]:
        """Return the table with its answers; and the tally."""
        bad = dict[int, str]()
        numbers = [
            table.column(name).cast(kind).cast(pa.float64(), safe=False)
            for name, kind in self.feature_types.items()
        ]
        answers, placed, tally = self.scorer.answer(self.scorer.rows(numbers, bad), bad)
        return append_predictions(
            table.select(self.passthrough_columns), answers, placed
        ), finalize_stats(tally)


def find_failing_indices(attempt: Callable[[slice], Any], n: int) -> list[int]:
    """Return which of n values make `attempt` fail on a slice of them, by halving."""
    found, left = [], [slice(0, n)]
    while left:
        these = left.pop()
        try:
            attempt(these)
        except (pa.ArrowInvalid, InvalidInput):
            middle = (these.start + these.stop) // 2
            if middle == these.start:
                found.append(middle)
            else:
                left += [slice(these.start, middle), slice(middle, these.stop)]
    return found


def append_predictions(kept: Any, answers: dict[str, Any], placed: NDArray[np.bool_]) -> Any:
    """Return a table of what is kept and the answers, without the rows that have no place."""
    kept = kept if placed.all() else kept.filter(pa.array(placed))
    return pa.table({name: kept.column(name) for name in kept.column_names} | answers)


def finalize_stats(tally: BatchStats) -> BatchStats:
    """Return the tally of one block with its bad rows counted."""
    tally.n_bad, tally.first_bad_row = len(tally.bad_rows), next(iter(tally.bad_rows), None)
    return tally


def format_csv_row(row: Sequence[Any]) -> str:
    """Return a line of CSV, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()
