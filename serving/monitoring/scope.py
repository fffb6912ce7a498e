"""The scope of the monitoring: which features and predictions of a model are counted."""

import logging
from collections.abc import Sequence

import numpy as np

from serving.model.arrays import Floats
from serving.model.card import FeatureInfo, PredictionValue
from serving.model.model import Model
from serving.monitoring.bins import AnyBins, SelectedBins, bin_labels, build_bins
from serving.monitoring.limits import MAX_CLASSES, MAX_FEATURE_BINS, MAX_PAIR_CLASSES
from serving.monitoring.prediction_bins import ClassBins, NumberBins, PredictionBins
from serving.monitoring.reference import Reference

log = logging.getLogger(__name__)


class MonitoringScope:
    """The features and predictions of a model that are counted, with their reference counts.

    `exclusions` says what is left out, and why. A column is a feature or the predictions. Without
    a reference `prediction_reference` is empty.
    """

    def __init__(self, model: Model) -> None:
        self.reference = Reference(model)
        self.exclusions: list[str] = []
        if not model.card:
            self.exclusions.append("features: the model has no model card")

        selected = self._select_features()
        self.features = [self.reference.features[index] for index in selected]
        self.feature_reference = [self.reference.feature_counts[index] for index in selected]
        self.feature_bins: AnyBins = build_bins(self.features)
        if len(selected) < len(self.reference.features):
            self.feature_bins = SelectedBins(self.feature_bins, selected)

        self.prediction_bins: PredictionBins | None = None
        self.prediction_reference: Floats = np.array([])
        reason = uncounted_reason(model)
        if reason:
            self.exclusions.append(f"predictions: {reason}")
        else:
            self.prediction_bins = self._build_prediction_bins(model)
            n_rows = self.reference.n_rows
            self.prediction_reference = self.prediction_bins.reference_counts(n_rows)

    @property
    def has_prediction_reference(self) -> bool:
        """Return whether the card has the distribution of the predictions."""
        return len(self.prediction_reference) > 0

    @property
    def n_columns(self) -> int:
        """Return the number of columns that are tested for drift."""
        return len(self.features) + int(self.has_prediction_reference)

    def log_exclusions(self) -> None:
        """Log a line for each part of the model that is not counted."""
        for exclusion in self.exclusions:
            log.info("not monitored: %s", exclusion)

    def _select_features(self) -> list[int]:
        selected = select_features(self.reference.features)
        n_features = len(self.reference.features)
        n_excluded = n_features - len(selected)
        if n_excluded:
            self.exclusions.append(
                f"{n_excluded} of {n_features} features: "
                f"the bins of all features together are limited to {MAX_FEATURE_BINS}"
            )
        return selected

    def _build_prediction_bins(self, model: Model) -> PredictionBins:
        if model.card and model.card.prediction:
            return NumberBins(model.card.prediction)

        bins = ClassBins(list_classes(model), self.reference.class_shares)
        n_classes = len(bins.classes)
        if bins.n_other:
            self.exclusions.append(
                f"{bins.n_other} of {n_classes} classes, which are counted together: "
                f"the limit is {MAX_CLASSES} classes"
            )
        if n_classes > MAX_PAIR_CLASSES:
            self.exclusions.append(
                "the class that was predicted instead of the actual one, in feedback: "
                f"the limit is {MAX_PAIR_CLASSES} classes"
            )
        return bins


def select_features(features: Sequence[FeatureInfo]) -> list[int]:
    """Return the indices of the first features whose bins are within the limit together."""
    selected = []
    n_bins = 0
    for index, feature in enumerate(features):
        n_feature_bins = len(bin_labels(feature))
        if n_bins + n_feature_bins <= MAX_FEATURE_BINS:
            selected.append(index)
            n_bins += n_feature_bins
    return selected


def list_classes(model: Model) -> list[PredictionValue]:
    """Return the classes of a classifier, or nothing for any other model."""
    if not isinstance(model.classes, np.ndarray):
        return []
    classes: list[PredictionValue] = model.classes.tolist()
    return classes


def uncounted_reason(model: Model) -> str:
    """Return why the predictions of a model, and feedback on them, are not counted, or ""."""
    card = model.card
    if model.has_several_outputs:
        return "the model has several outputs"
    if list_classes(model) or (card and card.prediction):
        return ""
    if card and card.task == "outlier_detector":
        return "the model detects outliers and predicts neither a class nor a number"
    return "the model has no classes, and no model card with the distribution of its predictions"
