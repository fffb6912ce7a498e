"""The model of a pickle: a fitted estimator, and its prediction plan if it has one."""

import logging
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from sklearn.base import is_regressor

from serving.model.arrays import Array, Floats, Rows
from serving.model.card import ModelCard
from serving.model.errors import InvalidInput, ModelError, describe_error
from serving.model.model import Model, is_finite
from serving.model.plans.admission import check_plan
from serving.model.plans.building import build_plan
from serving.model.plans.columns import NoPlanError
from serving.model.signature import Signature

# The values of the rows that a model without a card is tried with, one after the other: zeros are
# outside the domain of a logarithm, and ones of a logit.
TRIAL_VALUES = (0.0, 1.0, 0.5)

CARD_REMEDY = "train it with `train.py`, which writes a model card"

log = logging.getLogger(__name__)


class EstimatorModel(Model):
    """A fitted estimator with its model card, if it has one."""

    def __init__(
        self, estimator: Any, sha256: str, card: ModelCard | None, *, use_plan: bool = True
    ) -> None:
        """Take a fitted estimator; unless `use_plan`, each prediction is its own."""
        if not hasattr(estimator, "predict"):
            raise ModelError(f"{type(estimator).__name__} has no predict method")
        if hasattr(estimator, "feature_names_in_"):
            # Rows are arrays in the order of the model card. Names were checked before, if any.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)

        # CatBoost forgets the number when it is pickled, and then has 0.
        n_features = getattr(estimator, "n_features_in_", 0)
        signature = Signature([])
        if card:
            signature = Signature(card.features, card.input)
            _check_number_of_features(card, n_features)
            n_features = len(card.features)
        if not n_features:
            raise ModelError(
                f"{type(estimator).__name__} does not say how many features it has: {CARD_REMEDY}"
            )
        classes = getattr(estimator, "classes_", None)
        super().__init__(sha256, card, signature, int(n_features), classes)

        self.estimator = estimator
        self._trial_row = np.zeros((1, self.n_features))
        self.plan_refusal = "it is turned off"
        if use_plan:
            try:
                if card and card.prediction_plan and not card.prediction_plan.kind:
                    raise NoPlanError(card.prediction_plan.reason)
                self.plan = build_plan(estimator, self.signature, self.n_features)
            except NoPlanError as error:
                self.plan_refusal = str(error)

    @property
    def has_probabilities(self) -> bool:
        """Return whether the estimator has class probabilities.

        A multi-output classifier returns a list of tables, which is not served.
        """
        return isinstance(self.classes, np.ndarray) and hasattr(self.estimator, "predict_proba")

    @property
    def is_regressor(self) -> bool:
        """Return whether scikit-learn takes the estimator for a regressor."""
        return bool(is_regressor(self.estimator))

    def predict(self, rows: Rows) -> Array:
        """Return the predictions, of shape (rows,) or (rows, outputs). Raises InvalidInput."""
        if self.plan:
            predictions = self.plan.predict(rows)
            if predictions is not None and is_finite(predictions):
                return predictions
        return self._predict_by_estimator(rows)

    def probabilities(self, rows: Rows) -> Floats:
        """Return the class probabilities, of shape (rows, classes). Raises InvalidInput."""
        if self.plan and self.plan.has_probabilities:
            probabilities = self.plan.probabilities(rows)
            if probabilities is not None:
                return probabilities
        return self._probabilities_by_estimator(rows)

    def example_rows(self) -> Rows:
        """Return rows that the model can score: those of its card, or one that the test found."""
        if self.card is None:
            return self._trial_row
        return self._reference_rows(self.card)

    def self_test(self) -> None:
        """Raise ModelError unless the model reproduces the reference rows of its card.

        Without a card, raise it unless the model can score a row.
        """
        if self.card is None:
            self.has_several_outputs = self._score_trial_row().ndim > 1
        super().self_test()

    def test_estimator(self) -> None:
        """Raise ModelError unless the estimator, without a plan, passes the self-test."""
        if self.card is not None and self.plan:
            self._check_reference_rows(
                self.card, self._predict_by_estimator, self._probabilities_by_estimator
            )

    def admit_plan(self, rows: Rows, max_rows: int) -> int:
        """Keep the plan only if it answers as the estimator, and return the rows compared.

        They are at most `max_rows` of `rows`, and about as many that are made from them.
        """
        if self.plan is None:
            return 0
        try:
            return check_plan(self.plan, self.estimator, self.signature, rows, max_rows)
        except NoPlanError as error:
            self.plan = None
            self.plan_refusal = str(error)
            return 0

    def _score_trial_row(self) -> Array:
        """Return the predictions for a row of equal numbers. Raises ModelError if it has none."""
        errors = []
        for value in TRIAL_VALUES:
            rows = np.full((1, self.n_features), value)
            try:
                with np.errstate(all="ignore"):
                    predictions = self._without_axis(np.asarray(self.estimator.predict(rows)))
                _check_trial(predictions)
            except Exception as error:  # values that the model rejects, or a model of no numbers
                errors.append(error)
            else:
                self._trial_row = rows
                return predictions

        raise ModelError(
            "without a model card it is asked with arrays of numbers, and cannot score one "
            f"of shape (1, {self.n_features}): {describe_error(errors[0])}: {CARD_REMEDY}"
        ) from errors[0]

    def _without_axis(self, predictions: Array) -> Array:
        """Return the predictions of a classifier without the second axis that CatBoost adds."""
        if isinstance(self.classes, np.ndarray) and predictions.shape[1:] == (1,):
            return predictions[:, 0]
        return predictions

    def _predict_by_estimator(self, rows: Rows) -> Array:
        return self._without_axis(self._call_estimator(self.estimator.predict, rows))

    def _probabilities_by_estimator(self, rows: Rows) -> Floats:
        return self._call_estimator(self.estimator.predict_proba, rows)

    def _call_estimator(self, method: Callable[[Any], Any], rows: Rows) -> Array:
        try:
            # An overflow becomes an InvalidInput below, and needs no warning as well.
            with np.errstate(all="ignore"):
                result = np.asarray(method(self.signature.to_input(rows)))
        except ValueError as error:
            # The estimator works, as the self-test has shown, so these values are the reason:
            # beyond float32 for a tree, outside the domain of a transformer. The text of the error
            # may contain values of the request, so only its class and its origin are logged.
            function = traceback.extract_tb(error.__traceback__)[-1].name
            log.warning("the estimator rejected rows: %s in %s", type(error).__name__, function)
            raise InvalidInput(self._describe_rejection(rows)) from error

        self._check_finite(result)
        return result


def _check_number_of_features(card: ModelCard, n_features: int) -> None:
    """Raise ModelError if the card and the estimator disagree; 0 is a number not known."""
    if n_features not in (0, len(card.features)):
        raise ModelError(
            f"model card lists {len(card.features)} features, but the estimator has {n_features}"
        )


def _check_trial(predictions: Array) -> None:
    """Raise ValueError or TypeError unless there is a prediction for one row, as JSON has it."""
    if predictions.ndim not in (1, 2) or len(predictions) != 1:
        raise ValueError(f"the predictions for a row have the shape {predictions.shape}")
    if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
        raise ValueError("the prediction is not finite")
    msgspec.json.encode(predictions.tolist())
