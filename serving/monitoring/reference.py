"""The reference: the distribution of the training data, as the model card describes it."""

import numpy as np

from serving.model.arrays import Floats
from serving.model.card import ClassInfo, FeatureInfo
from serving.model.model import Model
from serving.monitoring.bins import training_counts


class Reference:
    """The counts of the training rows in each bin of each feature, and in each class.

    Without a model card there is no feature and no class.
    """

    def __init__(self, model: Model) -> None:
        self.features: list[FeatureInfo] = []
        self.n_rows = 0
        self.accuracy: float | None = None
        self.mean_absolute_error: float | None = None
        self.class_shares: list[float] = []

        card = model.card
        if card:
            self.features = card.features
            self.n_rows = card.rows
            metrics = card.metrics.get("cross_validation", {})
            self.accuracy = metrics.get("accuracy")
            self.mean_absolute_error = metrics.get("mae")
            self.class_shares = list(map(expected_share, card.classes))

        self.feature_counts: list[Floats] = []
        for feature in self.features:
            self.feature_counts.append(training_counts(feature, self.n_rows))

        self.class_counts: Floats = np.array(self.class_shares) * self.n_rows

    @property
    def has_classes(self) -> bool:
        """Return whether the card has the distribution of the classes."""
        return len(self.class_counts) > 0

    @property
    def n_monitored_columns(self) -> int:
        """Return the number of columns that are tested for drift: features, and the class mix."""
        return len(self.feature_counts) + int(self.has_classes)


def expected_share(item: ClassInfo) -> float:
    """Return the share of the predictions that a class has without drift.

    A classifier seldom predicts a rare class as often as it occurs. A card from before the shares
    of the predictions has those of the training rows only.
    """
    if item.predicted_share is None:
        return item.share
    return item.predicted_share
