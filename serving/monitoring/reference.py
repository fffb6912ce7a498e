"""The reference: the distribution of the training data, as the model card describes it."""

import numpy as np

from serving.model.model import Model
from serving.monitoring.counters import Floats


class Reference:
    """The counts of the training rows in each bin of each feature, and in each class.

    Without a model card there is no feature and no class.
    """

    def __init__(self, model: Model) -> None:
        card = model.card
        self.features = card.features if card else []
        self.n_rows = card.rows if card else 0
        self.accuracy: float | None = None
        if card:
            self.accuracy = card.metrics.get("cross_validation", {}).get("accuracy")

        # No training row is below the first edge or above the last one.
        self.feature_counts: list[Floats] = []
        for feature in self.features:
            self.feature_counts.append(np.array([0.0, *feature.shares, 0.0]) * self.n_rows)

        class_shares = [item.share for item in card.classes] if card else []
        self.class_counts: Floats = np.array(class_shares) * self.n_rows

    @property
    def has_classes(self) -> bool:
        """Return whether the card has the distribution of the classes."""
        return len(self.class_counts) > 0

    @property
    def n_monitored_columns(self) -> int:
        """Return the number of columns that are tested for drift: features, and the class mix."""
        return len(self.feature_counts) + int(self.has_classes)
