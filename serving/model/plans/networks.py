"""The predictor of multi-layer perceptrons."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.model.arrays import Array, Floats
from serving.model.plans.columns import NoPlanError
from serving.model.plans.links import sigmoid, softmax, two_classes


def relu(values: Floats) -> Floats:
    """Return `values`, with 0 for those below it."""
    return np.maximum(values, 0.0)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": np.positive,
    "logistic": sigmoid,
    "relu": relu,
    "softmax": softmax,
    "tanh": np.tanh,
}


# Weights, intercepts, and the name of the activation that follows.
Layer = tuple[Floats, Floats, str]


class NetworkPredictor:
    """Layers, from the first to the last."""

    name = "network"
    takes_missing = False
    max_rows = None

    def __init__(self, layers: Sequence[Layer], classes: Array | None) -> None:
        self.layers = layers
        self.classes = classes
        self.has_probabilities = classes is not None

    def predict(self, rows: Floats) -> Array:
        """Return the classes, or the outputs, of shape (rows,) or (rows, outputs)."""
        outputs = self._outputs(rows)
        if self.classes is None:
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        if outputs.shape[1] == 1:
            return self.classes[(outputs[:, 0] > 0.5).astype(int)]  # type: ignore[no-any-return]
        return self.classes[outputs.argmax(axis=1)]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return the class probabilities, of shape (rows, classes)."""
        outputs = self._outputs(rows)
        return two_classes(outputs) if outputs.shape[1] == 1 else outputs

    def _outputs(self, rows: Floats) -> Floats:
        values = rows
        for weights, intercepts, activation in self.layers:
            values = ACTIVATIONS[activation](values @ weights + intercepts)
        return values


def network(estimator: Any) -> NetworkPredictor:
    """Return the predictor of a perceptron. Raises NoPlanError for several labels a row."""
    activations = [estimator.activation] * (estimator.n_layers_ - 2) + [estimator.out_activation_]
    layers = list(zip(estimator.coefs_, estimator.intercepts_, activations, strict=True))
    binarizer = getattr(estimator, "_label_binarizer", None)
    if binarizer is None:
        return NetworkPredictor(layers, None)
    if binarizer.y_type_.startswith("multilabel"):
        raise NoPlanError("a network with several labels a row")
    return NetworkPredictor(layers, estimator.classes_)
