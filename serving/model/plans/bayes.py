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

    def __init__(self, classes: Array, priors: Floats, means: Floats, variances: Floats) -> None:
        self.classes = classes
        self.priors = priors
        self.means = means
        self.variances = variances
        self.max_rows = max(1, MAX_DIFFERENCES // means.size)
        log_densities = -0.5 * np.log(2.0 * np.pi * variances).sum(axis=1)
        self.constants = np.log(priors) + log_densities

    def predict(self, rows: Floats) -> Array:
        """Return the class with the largest likelihood, of shape (rows,)."""
        return self.classes[self._log_likelihoods(rows).argmax(axis=1)]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return the class probabilities, of shape (rows, classes)."""
        return softmax(self._log_likelihoods(rows))

    def _log_likelihoods(self, rows: Floats) -> Floats:
        differences = rows[:, np.newaxis] - self.means
        return self.constants - 0.5 * (differences**2 / self.variances).sum(axis=2)  # type: ignore[no-any-return]


def gaussian_bayes(estimator: Any) -> GaussianBayesPredictor:
    """Return the predictor of a GaussianNB."""
    return GaussianBayesPredictor(
        estimator.classes_, estimator.class_prior_, estimator.theta_, estimator.var_
    )
