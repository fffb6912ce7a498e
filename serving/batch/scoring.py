"""Scoring of columns: rows in, predictions as Arrow columns out, with a reason for each bad row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.batch.csv_format import CsvFormat, ReadOptions, format_csv_row
from serving.batch.features import Reasons, build_rows, find_failing_indices
from serving.batch.stats import BadRow, BatchStats
from serving.model.arrays import Floats, Rows
from serving.model.errors import InvalidInput, ModelError
from serving.model.model import Model
from serving.monitoring.prediction_bins import NumberBins
from serving.monitoring.scope import MonitoringScope

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

    def __init__(
        self,
        model: Model,
        on_error: str,
        proba: bool,
        keep: list[str] | None,
        reading: ReadOptions | None = None,
    ) -> None:
        if model.card is None:
            raise ModelError("the model has no model card, which names the columns of its features")
        if proba and not model.has_probabilities:
            raise ModelError("--proba: this model has no probabilities")
        self.model = model
        self.on_error = on_error
        self.proba = proba
        self.keep = keep
        self.reading = reading or ReadOptions()
        self.keeps_partitions = False  # in the output, beside the columns of a file

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

    @property
    def options(self) -> dict[str, Any]:
        """Return the options, with which another process can build the same scorer."""
        return {
            "on_error": self.on_error,
            "proba": self.proba,
            "keep": self.keep,
            "reading": self.reading,
        }

    def score_columns(self, columns: list[Any], reasons: Reasons) -> ScoredRows:
        """Return the predictions for columns, one a feature, as `score` does for rows."""
        return self.score(build_rows(self.model.signature, columns, reasons), reasons)

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
                lambda span: self._predict(valid_rows[span]), len(valid_rows), InvalidInput
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

    def csv_suffixes(self, columns: dict[str, Any], csv_format: CsvFormat) -> list[Any]:
        """Return the output columns as the texts that a line of CSV gains."""
        names = list(columns)
        suffixes = []
        if len(self.class_values):
            # One text for each class and, last, for a row without prediction.
            labels = self.model.labels.items()
            pairs = [format_csv_row(pair, csv_format.delimiter) for pair in labels]
            texts = pa.array([*pairs, csv_format.delimiter])
            suffixes.append(texts.take(columns["label"].indices.fill_null(len(pairs))))
            names = self.probability_columns
        for name in names:
            suffixes.append(to_csv_fields(columns[name], csv_format))
        return suffixes


def append_predictions(columns: Mapping[str, Any], scored: ScoredRows) -> Any:
    """Return the rows that are kept, of `columns` and of the output columns."""
    if not scored.keep_mask.all():
        kept = pa.array(scored.keep_mask)
        columns = {name: column.filter(kept) for name, column in columns.items()}
    return pa.table({**columns, **scored.columns})


def to_csv_fields(column: Any, csv_format: CsvFormat) -> Any:
    """Return a column as fields of CSV, in quotation marks where they are needed."""
    if pa.types.is_floating(column.type) and csv_format.decimal != ".":
        return pc.replace_substring(column.cast(pa.string()), ".", csv_format.decimal)
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    fields = [format_csv_row([value], csv_format.delimiter) for value in values]
    return pa.array(fields, pa.string()).take(encoded.indices)
