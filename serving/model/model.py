"""A model as the service asks it: predictions, probabilities, and the self-test of its card."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.model.arrays import Array, Floats, Rows
from serving.model.card import ModelCard, PredictionValue, values_match
from serving.model.errors import InvalidInput, ModelError, describe_error
from serving.model.plans.plan import FLOAT32_MAX, Plan
from serving.model.signature import Signature

__all__ = ["FLOAT32_MAX", "Model"]  # larger values are rejected: sums of products would overflow


class Model(ABC):
    """What answers rows, with its model card, if it has one."""

    estimator: Any = None  # that of a pickle
    plan: Plan | None = None
    plan_refusal = ""  # why there is none

    def __init__(
        self,
        sha256: str,
        card: ModelCard | None,
        signature: Signature,
        n_features: int,
        classes: Any,
    ) -> None:
        """Take the SHA-256 of the pickle and, of a classifier, the classes in their order.

        Raises ModelError if the card lists others.
        """
        self.sha256 = sha256
        self.version = sha256[:12]
        self.card = card
        self.signature = signature
        self.n_features = n_features
        self.features = signature.names
        # A multi-output classifier has a list of arrays as `classes_`.
        self.classes = classes
        self.labels: dict[PredictionValue, str] = {}
        self.has_several_outputs = False  # without a card it is known after the self-test
        if card:
            self.labels = {class_info.value: class_info.label for class_info in card.classes}
            references = card.reference
            self.has_several_outputs = any(isinstance(row.prediction, list) for row in references)
            self._check_classes()

    @property
    @abstractmethod
    def has_probabilities(self) -> bool:
        """Return whether there are class probabilities."""

    @property
    @abstractmethod
    def is_regressor(self) -> bool:
        """Return whether the predictions are quantities."""

    @abstractmethod
    def predict(self, rows: Rows) -> Array:
        """Return the predictions, of shape (rows,), for `rows`, of shape (rows, features).

        A multi-output model has the shape (rows, outputs). Raises InvalidInput if the model
        rejects the values or a prediction is not finite.
        """

    @abstractmethod
    def probabilities(self, rows: Rows) -> Floats:
        """Return the class probabilities, of shape (rows, classes) in the order of `classes`.

        Raises InvalidInput as `predict` does.
        """

    @abstractmethod
    def example_rows(self) -> Rows:
        """Return rows that the model can score."""

    @property
    def has_labels(self) -> bool:
        """Return whether each prediction is one class, which has a label."""
        return bool(self.labels) and not self.has_several_outputs

    def self_test(self) -> None:
        """Raise ModelError unless the model reproduces the reference rows of its card."""
        if self.card is not None:
            self._check_reference_rows(self.card, self.predict, self.probabilities)

    def _check_classes(self) -> None:
        """Raise ModelError if the card and the model disagree on the classes."""
        if isinstance(self.classes, np.ndarray):
            card_classes = list(self.labels)
            model_classes = self.classes.tolist()
            if card_classes != model_classes:
                raise ModelError(
                    f"model card lists classes {card_classes}, "
                    f"but the estimator has {model_classes}"
                )

    def _check_reference_rows(
        self,
        card: ModelCard,
        predict: Callable[[Rows], Array],
        predict_probabilities: Callable[[Rows], Floats],
    ) -> None:
        try:
            reproduced = self._reproduces(card, predict, predict_probabilities)
        except Exception as error:
            reason = describe_error(error.__cause__ or error)
            raise ModelError(f"self-test failed: {reason}") from error
        if not reproduced:
            raise ModelError(
                "self-test failed: the predictions differ from the reference rows of the model card"
            )

    def _reproduces(
        self,
        card: ModelCard,
        predict: Callable[[Rows], Array],
        predict_probabilities: Callable[[Rows], Floats],
    ) -> bool:
        rows = self._reference_rows(card)
        expected_predictions = [reference.prediction for reference in card.reference]
        if not values_match(predict(rows).tolist(), expected_predictions):
            return False
        if not self.has_probabilities:
            return True

        expected_probabilities = [reference.probability for reference in card.reference]
        return values_match(predict_probabilities(rows).tolist(), expected_probabilities)

    def _reference_rows(self, card: ModelCard) -> Rows:
        return self.signature.to_rows([reference.features for reference in card.reference])

    def _check_finite(self, result: Array) -> None:
        if not is_finite(result):
            row = int(np.argwhere(~np.isfinite(result))[0][0])
            raise InvalidInput(f"The model has no finite prediction for row {row}")

    def _describe_rejection(self, rows: Rows) -> str:
        unseen = self.signature.find_unseen_category(rows)
        if unseen is None:
            return "The model cannot score these values"
        row, feature = unseen
        return f"The model cannot score the category of `{feature}` in row {row}"


def is_finite(predictions: Array) -> bool:
    """Return whether all predictions are finite; classes are."""
    return predictions.dtype.kind != "f" or bool(np.isfinite(predictions).all())
