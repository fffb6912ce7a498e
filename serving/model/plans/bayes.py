"""The predictor of Gaussian naive Bayes."""

from typing import Any

import numpy as np

from serving.model.arrays import Array, Floats
from serving.model.plans.links import softmax

MAX_DIFFERENCES = 1_000_000  # of rows and means, at once


class GaussianBayesPredictor:
    """The logarithm of the prior and of the density of each feature, for each class."""

    name = "naive Bayes"
    takes_missing = False
    has_probabilities = True

    def __init__(self, estimator: Any) -> None:
        self.classes = estimator.classes_
        self.means = estimator.theta_
        self.variances = estimator.var_
        self.max_rows = max(1, MAX_DIFFERENCES // self.means.size)
        log_densities = -0.5 * np.log(2.0 * np.pi * self.variances).sum(axis=1)
        self.constants = np.log(estimator.class_prior_) + log_densities

    def predict(self, rows: Floats) -> Array:
        """Return the class with the largest likelihood, of shape (rows,)."""
        return self.classes[self._log_likelihoods(rows).argmax(axis=1)]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return the class probabilities, of shape (rows, classes)."""
        return softmax(self._log_likelihoods(rows))

    def _log_likelihoods(self, rows: Floats) -> Floats:
        differences = rows[:, np.newaxis] - self.means
        return self.constants - 0.5 * (differences**2 / self.variances).sum(axis=2)  # type: ignore[no-any-return]
