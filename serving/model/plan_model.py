"""The model of a plan file: a prediction plan alone, without scikit-learn."""

from collections.abc import Callable

import numpy as np

from serving.model.arrays import Array, Floats, Rows
from serving.model.card import ModelCard
from serving.model.errors import InvalidInput
from serving.model.model import Model
from serving.model.plans.plan import Plan
from serving.model.signature import Signature


class PlanModel(Model):
    """A prediction plan with its model card, which has to answer all rows."""

    card: ModelCard
    plan: Plan

    def __init__(self, plan: Plan, card: ModelCard) -> None:
        # A plan takes the rows, whatever DataFrame its estimator took.
        signature = Signature(card.features, card.input, builds_frames=False)
        super().__init__(card.sha256, card, signature, len(card.features), plan.classes)
        self.plan = plan

    @property
    def has_probabilities(self) -> bool:
        """Return whether the plan has class probabilities."""
        return self.plan.has_probabilities

    @property
    def is_regressor(self) -> bool:
        """Return whether the predictions are quantities."""
        return self.plan.classes is None

    def predict(self, rows: Rows) -> Array:
        """Return the predictions, of shape (rows,) or (rows, outputs). Raises InvalidInput."""
        return self._ask(self.plan.predict, rows)

    def probabilities(self, rows: Rows) -> Floats:
        """Return the class probabilities, of shape (rows, classes). Raises InvalidInput."""
        return self._ask(self.plan.probabilities, rows)

    def example_rows(self) -> Rows:
        """Return the reference rows of the card."""
        return self._reference_rows(self.card)

    def _ask(self, method: Callable[[Rows], Array | None], rows: Rows) -> Array:
        """Return the answers, asked with as many rows at once as the plan takes."""
        step = self.plan.max_rows or len(rows)
        answers = []
        for start in range(0, len(rows), step):
            answer = method(rows[start : start + step])
            if answer is None:
                raise InvalidInput(self._describe_rejection(rows))
            answers.append(answer)

        result = np.concatenate(answers)
        self._check_finite(result)
        return result
