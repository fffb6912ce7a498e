"""Scoring of columns: rows in, predictions as Arrow columns out, with a reason for each bad row."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.features import Reasons, build_rows, find_failing_indices
from serving.batch.stats import BadRow, BatchError, BatchStats
from serving.model.arrays import Floats, Rows
from serving.model.errors import InvalidInput, ModelError
from serving.model.model import Model
from serving.monitoring.prediction_bins import NumberBins
from serving.monitoring.scope import MonitoringScope

MAX_LISTED_LENGTH = 300  # characters of the column names in a message
MAX_INT8_CLASSES = 127


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

        self.scope = MonitoringScope(model)
        self.reference_features = model.card.reference[0].features
        self._reference_row = model.signature.to_rows([self.reference_features])

        classes = model.classes.tolist() if isinstance(model.classes, np.ndarray) else []
        self.class_values = pa.array(classes)
        self.labels = pa.array(list(model.labels.values()), pa.string())
        self.metadata = {b"model_version": model.version.encode()}

        self.probability_columns: list[str] = []
        if proba:
            self.probability_columns = [f"probability_{label}" for label in model.labels.values()]
        self.prediction_columns = ["prediction"]
        if model.has_several_outputs:
            n_outputs = len(model.card.reference[0].prediction)
            self.prediction_columns = [f"prediction_{index}" for index in range(n_outputs)]
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

    def to_rows(self, columns: list[Any], reasons: Reasons) -> Rows:
        """Return columns, one a feature, as rows; a bad value gets a reason in `reasons`."""
        return build_rows(self.model.signature, columns, reasons)

    def score(self, rows: Rows, reasons: Reasons) -> ScoredRows:
        """Return the predictions for `rows`, of shape (rows, features).

        `reasons` has the rows that are known to be bad. A bad row is null in the columns, or left
        out if `on_error` is skip.
        """
        valid = np.ones(len(rows), bool)
        valid[list(reasons)] = False
        valid_rows = rows[valid] if reasons else rows

        try:
            predictions, probabilities = self._predict(valid_rows)
        except InvalidInput:
            failing = find_failing_indices(
                lambda span: self._predict(valid_rows[span]), len(valid_rows), (InvalidInput,)
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
            prediction_counts=self._count_predictions(predictions),
            feature_counts=self.scope.feature_bins.counts(valid_rows),
        )
        stats.set_bad_rows(bad_rows)
        return ScoredRows(columns, keep_mask, stats)

    def _predict(self, rows: Rows) -> tuple[NDArray[Any], Floats]:
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
            outputs = predictions.reshape(len(predictions), len(self.prediction_columns)).T
            return {
                name: self._scatter(values, valid)
                for name, values in zip(self.prediction_columns, outputs, strict=True)
            }

        index_type: Any = np.int8 if len(self.class_values) <= MAX_INT8_CLASSES else np.int32
        codes = self._class_codes(predictions).astype(index_type)
        indices = self._scatter(codes, valid)
        return {
            "prediction": self.class_values.take(indices),
            "label": pa.DictionaryArray.from_arrays(indices, self.labels),
        }

    def _count_predictions(self, predictions: NDArray[Any]) -> Any:
        """Return the number of predictions of each class, or in each bin of a number."""
        if len(self.class_values):
            return np.bincount(self._class_codes(predictions), minlength=len(self.class_values))
        bins = self.scope.prediction_bins
        if isinstance(bins, NumberBins):
            return np.array(list(bins.counts(predictions.tolist()).values()))
        return 0

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
            return [to_csv_fields(column) for column in columns.values()]
        class_indices = columns["label"].indices.fill_null(len(self.class_values))
        suffixes = [self.csv_suffix_by_class.take(class_indices)]
        for name in self.probability_columns:
            suffixes.append(columns[name].cast(pa.string()))
        return suffixes


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


def to_csv_fields(column: Any) -> Any:
    """Return a column as fields of CSV, in quotation marks where they are needed."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    encoded = column.dictionary_encode()
    fields = [format_csv_row([value]) for value in encoded.dictionary.to_pylist()]
    return pa.array(fields, pa.string()).take(encoded.indices)
