"""Prometheus metrics of one model version: scored rows, feedback, and the reference."""

from collections.abc import Iterable, Iterator

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import SummaryMetricFamily

from serving.monitoring.bins import bin_labels
from serving.monitoring.drift import chi2_bound, smoothed_shares
from serving.monitoring.feedback_counters import ERROR_SUM_COLUMN, FEEDBACK_ROWS_COLUMN
from serving.monitoring.metric_families import make_metric
from serving.monitoring.prediction_bins import ClassBins
from serving.monitoring.telemetry import Telemetry

DRIFT_BOUND_HELP = "Bound that PSI / (1/rows + 1/reference rows) exceeds by chance"


class ModelMetrics:
    """The metrics with the label `model_version`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.scope = telemetry.scope
        self.version = {"model_version": telemetry.model_version}

        self._feature_bin_labels: list[dict[str, str]] = []
        for feature in self.scope.features:
            for label in bin_labels(feature):
                self._feature_bin_labels.append({"feature": feature.name, "bin": label})

        # The names of the metrics and the labels of the bins in which predictions are counted.
        self._has_classes = isinstance(self.scope.prediction_bins, ClassBins)
        bin_name = "class" if self._has_classes else "bin"
        self._prediction_labels: list[dict[str, str]] = []
        if self.scope.prediction_bins is not None:
            self._prediction_labels = [
                {bin_name: label} for label in self.scope.prediction_bins.labels
            ]

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        yield from self._row_metrics()
        yield from self._feedback_metrics()
        yield from self._model_metrics()
        yield from self._feature_reference_metrics()
        yield from self._prediction_reference_metrics()

    def _row_metrics(self) -> Iterator[Metric]:
        totals = self.telemetry.predictions.totals()
        yield make_metric("counter", "rows", "Rows scored", [(self.version, totals.n_rows)])
        yield self._versioned_metric(
            "counter",
            "feature_rows",
            "Rows scored, by feature and reference bin",
            self._feature_bin_labels,
            totals.by_feature,
        )

        name = "prediction_rows"
        help_text = "Rows scored, by reference bin of the predicted number"
        if self._has_classes:
            name = "predictions"
            help_text = "Rows by predicted class"
        yield self._versioned_metric(
            "counter", name, help_text, self._prediction_labels, totals.by_prediction
        )

    def _feedback_metrics(self) -> Iterator[Metric]:
        feedback = self.telemetry.feedback
        if feedback is None:
            return

        totals = feedback.totals()
        if feedback.by_class:
            labels = []
            for predicted, actual in feedback.by_class.columns:
                labels.append({"predicted": predicted, "actual": actual})
            yield self._versioned_metric(
                "counter",
                "feedback",
                "Rows with ground-truth feedback, by predicted and actual class",
                labels,
                totals,
            )
            return

        metric = SummaryMetricFamily(
            "feedback_absolute_error",
            "Absolute error of the rows with ground-truth feedback",
            labels=list(self.version),
        )
        metric.add_metric(
            list(self.version.values()),
            count_value=int(totals[FEEDBACK_ROWS_COLUMN]),
            sum_value=float(totals[ERROR_SUM_COLUMN]),
        )
        yield metric

    def _model_metrics(self) -> Iterator[Metric]:
        telemetry = self.telemetry
        reference = self.scope.reference
        yield self._versioned_metric(
            "gauge", "model_info", "Served model", [{"name": telemetry.model_name}], [1]
        )
        yield make_metric(
            "gauge",
            "model_last_reload_successful",
            "1 if the last model reload succeeded",
            [({}, not telemetry.reload_error)],
        )
        if reference.accuracy is not None:
            yield make_metric(
                "gauge",
                "model_accuracy_reference",
                "Cross-validated accuracy from the model card",
                [(self.version, reference.accuracy)],
            )
        if reference.mean_absolute_error is not None:
            yield make_metric(
                "gauge",
                "model_mean_absolute_error_reference",
                "Cross-validated mean absolute error from the model card",
                [(self.version, reference.mean_absolute_error)],
            )
        yield make_metric(
            "gauge",
            "model_reference_rows",
            "Training rows of the reference distribution",
            [(self.version, reference.n_rows)],
        )

    def _feature_reference_metrics(self) -> Iterator[Metric]:
        shares = [smoothed_shares(counts) for counts in self.scope.feature_reference]
        yield self._versioned_metric(
            "gauge",
            "feature_reference_share",
            "Share of training rows per bin, add-one smoothed",
            self._feature_bin_labels,
            np.concatenate([[], *shares]),
        )

        feature_labels = [{"feature": feature.name} for feature in self.scope.features]
        bounds = []
        for counts in self.scope.feature_reference:
            bounds.append(chi2_bound(len(counts), self.scope.n_columns))
        yield self._versioned_metric(
            "gauge", "feature_drift_bound", DRIFT_BOUND_HELP, feature_labels, bounds
        )

    def _prediction_reference_metrics(self) -> Iterator[Metric]:
        if not self.scope.has_prediction_reference:
            return

        prefix = "prediction"
        help_text = "Share of cross-validated predictions per bin, add-one smoothed"
        if self._has_classes:
            prefix = "class"
            help_text = "Expected share of predictions per class, add-one smoothed"

        counts = self.scope.prediction_reference
        yield self._versioned_metric(
            "gauge",
            f"{prefix}_reference_share",
            help_text,
            self._prediction_labels,
            smoothed_shares(counts),
        )
        bound = chi2_bound(len(counts), self.scope.n_columns)
        yield make_metric(
            "gauge", f"{prefix}_drift_bound", DRIFT_BOUND_HELP, [(self.version, bound)]
        )

    def _versioned_metric(
        self,
        kind: str,
        name: str,
        help_text: str,
        labels: Iterable[dict[str, str]],
        values: Iterable[float],
    ) -> Metric:
        samples = []
        for sample_labels, value in zip(labels, values, strict=True):
            samples.append((self.version | sample_labels, value))
        return make_metric(kind, name, help_text, samples)
