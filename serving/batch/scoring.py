"""Scoring of columns: rows in, predictions as Arrow columns out, with a reason for each bad row."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.stats import BadRow, BatchError, BatchStats
from serving.model.arrays import Floats
from serving.model.card import ModelCard
from serving.model.errors import InvalidInput, ModelError
from serving.model.model import FLOAT32_MAX, Model
from serving.monitoring.drift import FeatureBins

MAX_LISTED_LENGTH = 300  # characters of the column names in a message
MAX_QUOTED_LENGTH = 100  # characters of a value in a message
MAX_INT8_CLASSES = 127

PLURALS = {
    "integer": "integers",
    "boolean": "booleans",
    "category": "categories",
    "text": "texts",
}

Reasons = dict[int, str]  # why a row is bad, by its index


@dataclass
class ScoredRows:
    """The output columns of some rows, which of the rows they keep, and their counts."""

    columns: dict[str, Any]
    keep_mask: NDArray[np.bool_]
    stats: BatchStats


class Scorer:
    """A model with the options of a job.

    `on_error` is what happens to a bad row: `fail` ends the job, `null` leaves it without
    prediction, `skip` drops it. `keep` are the input columns to pass through, or None for all.
    Raises ModelError for a model that a batch cannot use.
    """

    def __init__(self, model: Model, on_error: str, proba: bool, keep: list[str] | None) -> None:
        if model.card is None:
            raise ModelError("the model has no model card, which names the columns of its features")
        if proba and not model.has_probabilities:
            raise ModelError("--proba: this model has no probabilities")
        self.model = model
        self.on_error = on_error
        self.proba = proba
        self.keep = keep

        check_features(model.card)
        self._reference_row = np.array([model.card.reference[0].features], dtype=np.float64)
        if model.predict(self._reference_row).ndim != 1:
            raise ModelError(
                "a batch has one column of predictions; this model has several outputs"
            )

        classes = model.classes.tolist() if isinstance(model.classes, np.ndarray) else []
        self.class_values = pa.array(classes)
        self.labels = pa.array(list(model.labels.values()), pa.string())
        self.bins = FeatureBins([feature.edges for feature in model.card.features])
        self.metadata = {b"model_version": model.version.encode()}

        self.probability_columns: list[str] = []
        if proba:
            self.probability_columns = [f"probability_{label}" for label in model.labels.values()]
        self.prediction_columns = ["prediction"]
        if classes:
            self.prediction_columns.append("label")
        self.output_columns = self.prediction_columns + self.probability_columns

        # The text that a line of CSV gains for each class and, last, for a row without prediction.
        class_suffixes = [format_csv_row(pair) for pair in model.labels.items()]
        self.csv_suffix_by_class = pa.array([*class_suffixes, ","])

    @property
    def options(self) -> dict[str, Any]:
        """Return the options, with which another process can build the same scorer."""
        return {"on_error": self.on_error, "proba": self.proba, "keep": self.keep}

    def check_columns(self, names: list[str]) -> None:
        """Raise BatchError unless a table with columns of these names can be scored."""
        for name in names:
            if names.count(name) > 1:
                raise BatchError(f"column {name!r} occurs {names.count(name)} times")

        for name in [*self.model.features, *(self.keep or [])]:
            if name not in names:
                found = ", ".join(map(repr, names))[:MAX_LISTED_LENGTH]
                raise BatchError(f"missing column {name!r}; found {found}")

        existing = set(self.output_columns).intersection(self.passthrough_columns(names))
        if existing:
            raise BatchError(
                f"output column {min(existing)!r} already exists; exclude it with --keep"
            )

    def passthrough_columns(self, names: list[str]) -> list[str]:
        """Return the columns of the input that the output keeps."""
        if self.keep is None:
            return names
        return self.keep

    def to_matrix(self, columns: list[Any], reasons: Reasons) -> Floats:
        """Return columns of float64 as rows, of shape (rows, features).

        A null becomes NaN, with a reason in `reasons`.
        """
        # One feature after the other in memory: each column is copied and searched as a whole.
        matrix = np.empty((len(columns), len(columns[0])))
        for j, column in enumerate(columns):
            matrix[j] = column.to_numpy(zero_copy_only=False)
            if column.null_count:
                for i in np.flatnonzero(column.is_null()).tolist():
                    reasons.setdefault(i, self.describe_bad_value(self.model.features[j], "null"))
        return matrix.T

    def score(self, rows: Floats, reasons: Reasons) -> ScoredRows:
        """Return the predictions for `rows`, of shape (rows, features).

        `reasons` has the rows that are known to be bad. A bad row is null in the columns, or left
        out if `on_error` is skip.
        """
        self._find_non_finite(rows, reasons)
        valid = np.ones(len(rows), bool)
        valid[list(reasons)] = False
        valid_rows = rows[valid] if reasons else rows

        try:
            predictions, probabilities = self._predict(valid_rows)
        except InvalidInput:
            failing = find_failing_indices(
                lambda span: self._predict(valid_rows[span]), len(valid_rows)
            )
            rejected = np.flatnonzero(valid)[failing].tolist()
            return self.score(rows, reasons | dict.fromkeys(rejected, "the model rejects the row"))

        columns = self._prediction_columns(predictions, valid)
        for name, values in zip(self.probability_columns, probabilities.T, strict=True):
            columns[name] = self._scatter(values, valid)

        keep_mask = np.ones(len(rows), bool)
        if self.on_error == "skip":
            keep_mask = valid
        bad_rows = [BadRow(row, None, reasons[row]) for row in sorted(reasons)]
        stats = BatchStats(
            rows=len(rows),
            classes=self._count_classes(predictions),
            bin_counts=self.bins.counts(valid_rows),
        )
        stats.set_bad_rows(bad_rows)
        return ScoredRows(columns, keep_mask, stats)

    def _find_non_finite(self, rows: Floats, reasons: Reasons) -> None:
        # A comparison with NaN is false, so NaN is found as well.
        if rows.max(initial=0) <= FLOAT32_MAX and rows.min(initial=0) >= -FLOAT32_MAX:
            return
        for i, j in np.argwhere(~(np.abs(rows) <= FLOAT32_MAX)).tolist():
            value = float(rows[i, j])
            reasons.setdefault(i, self.describe_bad_value(self.model.features[j], value))

    def _predict(self, rows: Floats) -> tuple[NDArray[Any], Floats]:
        if not len(rows):
            # scikit-learn rejects no rows; the reference row has the types of the result.
            predictions, probabilities = self._predict(self._reference_row)
            return predictions[:0], probabilities[:0]

        probabilities = np.empty((len(rows), 0))
        if self.proba:
            probabilities = self.model.probabilities(rows)
        return self.model.predict(rows), probabilities

    def _prediction_columns(
        self, predictions: NDArray[Any], valid: NDArray[np.bool_]
    ) -> dict[str, Any]:
        if not len(self.class_values):
            return {"prediction": self._scatter(predictions, valid)}

        index_type: Any = np.int8 if len(self.class_values) <= MAX_INT8_CLASSES else np.int32
        codes = self._class_codes(predictions).astype(index_type)
        indices = self._scatter(codes, valid)
        return {
            "prediction": self.class_values.take(indices),
            "label": pa.DictionaryArray.from_arrays(indices, self.labels),
        }

    def _count_classes(self, predictions: NDArray[Any]) -> NDArray[np.int64]:
        if not len(self.class_values):
            return np.zeros(0, np.int64)
        return np.bincount(self._class_codes(predictions), minlength=len(self.class_values))

    def _class_codes(self, predictions: NDArray[Any]) -> NDArray[np.int64]:
        return np.searchsorted(np.asarray(self.model.classes), predictions)

    def _scatter(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> Any:
        if self.on_error == "skip" or valid.all():
            return pa.array(values)
        full = np.zeros(len(valid), values.dtype)
        full[valid] = values
        return pa.array(full, mask=~valid)

    def csv_suffixes(self, columns: dict[str, Any]) -> list[Any]:
        """Return the output columns as the texts that a line of CSV gains."""
        if not len(self.class_values):
            return [columns["prediction"].cast(pa.string())]
        class_indices = columns["label"].indices.fill_null(len(self.class_values))
        suffixes = [self.csv_suffix_by_class.take(class_indices)]
        for name in self.probability_columns:
            suffixes.append(columns[name].cast(pa.string()))
        return suffixes

    def describe_bad_value(self, name: str, value: float | str) -> str:
        """Return what is wrong with a value of a column."""
        expected = "UTF-8"
        if name in self.model.features:
            expected = "a number"
        if isinstance(value, float):
            expected = "a finite number"
            if np.isfinite(value):
                expected = f"a number within {FLOAT32_MAX:.3g}"
        return f"{name!r}: expected {expected}, got {str(value)[:MAX_QUOTED_LENGTH]}"


def check_features(card: ModelCard) -> None:
    """Raise ModelError with the first feature of each kind that a batch does not take."""
    unsupported: dict[str, str] = {}
    for feature in card.features:
        if feature.nullable:
            unsupported.setdefault("missing values", feature.name)
        if card.input == "texts":
            unsupported.setdefault("texts", feature.name)
        elif feature.type != "number":
            unsupported.setdefault(PLURALS[feature.type], feature.name)

    if unsupported:
        kinds = ", ".join(f"{kind} (`{name}`)" for kind, name in unsupported.items())
        raise ModelError(f"a batch takes numbers without missing values; this model takes {kinds}")


def find_failing_indices(attempt: Callable[[slice], Any], n: int) -> list[int]:
    """Return the indices of the n values for which `attempt` fails on a slice, by bisection."""
    failing = []
    spans = [slice(0, n)]
    while spans:
        span = spans.pop()
        try:
            attempt(span)
        except (pa.ArrowInvalid, InvalidInput):
            middle = (span.start + span.stop) // 2
            if middle == span.start:
                failing.append(middle)
            else:
                spans.append(slice(span.start, middle))
                spans.append(slice(middle, span.stop))
    return failing


def append_predictions(table: Any, scored: ScoredRows) -> Any:
    """Return the rows of `table` that are kept, with the output columns."""
    if not scored.keep_mask.all():
        table = table.filter(pa.array(scored.keep_mask))
    columns: Mapping[str, Any] = {name: table.column(name) for name in table.column_names}
    return pa.table({**columns, **scored.columns})


def format_csv_row(row: Sequence[Any]) -> str:
    """Return a line of CSV, without its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()
