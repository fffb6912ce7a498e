"""Predictions from scores: the links of regressors, and the probabilities of classes."""

from collections.abc import Callable

import numpy as np

from serving.model.arrays import Floats


def double(scores: Floats) -> Floats:
    """Return twice the scores, the exponential loss of which is the logistic one."""
    return 2.0 * scores


# By the names under which a plan file has them.
LINKS: dict[str, Callable[[Floats], Floats]] = {"double": double, "exp": np.exp}


def sigmoid(scores: Floats) -> Floats:
    """Return the logistic function of `scores`, without an overflow."""
    exponentials = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0, exponentials) / (1.0 + exponentials)


def softmax(scores: Floats) -> Floats:
    """Return the softmax of each row of `scores`, of shape (rows, classes)."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def two_classes(second_class: Floats) -> Floats:
    """Return the probabilities of both classes, given those of the second, of shape (rows, 1)."""
    return np.hstack([1.0 - second_class, second_class])
