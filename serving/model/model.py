"""A fitted estimator with its model card: prediction and self-test."""

import logging
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from serving.model.arrays import Array, Floats, Rows
from serving.model.card import ModelCard, PredictionValue, values_match
from serving.model.errors import InvalidInput, ModelError, describe_error
from serving.model.plans.admission import check_plan
from serving.model.plans.columns import NoPlanError
from serving.model.plans.plan import Plan, build_plan
from serving.model.signature import Signature

# Larger values are rejected: trees refuse them, and sums of products overflow.
FLOAT32_MAX = float(np.finfo(np.float32).max)

# The values of the rows that a model without a card is tried with, one after the other: zeros are
# outside the domain of a logarithm, and ones of a logit.
TRIAL_VALUES = (0.0, 1.0, 0.5)

CARD_REMEDY = "train it with `train.py`, which writes a model card"

log = logging.getLogger(__name__)


class Model:
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

        self.estimator = estimator
        self.sha256 = sha256
        self.version = sha256[:12]
        self.card = card
        self.labels: dict[PredictionValue, str] = {}
        # A multi-output classifier has a list of arrays as `classes_`.
        self.classes = getattr(estimator, "classes_", None)
        if card:
            self.signature = Signature(card.features, card.input)
            self.n_features = len(card.features)
            self.labels = {class_info.value: class_info.label for class_info in card.classes}
            self._check_card()
        else:
            self.signature = Signature([])
            self.n_features = self._count_features()
        self.features = self.signature.names

        # A multi-output classifier returns a list of probability tables, which is not served.
        self.has_probabilities = isinstance(self.classes, np.ndarray) and hasattr(
            estimator, "predict_proba"
        )
        # Without a card these are known after the self-test.
        self.has_several_outputs = False
        self._trial_row = np.zeros((1, self.n_features))
        if card:
            references = card.reference
            self.has_several_outputs = any(isinstance(row.prediction, list) for row in references)
        self.plan: Plan | None = None
        self.plan_refusal = "it is turned off"
        may_have_plan = card is None or not card.prediction_plan or card.prediction_plan.kind
        if use_plan and may_have_plan:
            try:
                self.plan = build_plan(estimator, self.signature, self.n_features)
            except NoPlanError as error:
                self.plan_refusal = str(error)

    def predict(self, rows: Rows) -> Array:
        """Return the predictions, of shape (rows,), for `rows`, of shape (rows, features).

        A multi-output model has the shape (rows, outputs). Raises InvalidInput if the estimator
        rejects the values or a prediction is not finite.
        """
        if self.plan:
            predictions = self.plan.predict(rows)
            if predictions is not None and _is_finite(predictions):
                return predictions
        return self._predict_by_estimator(rows)

    def probabilities(self, rows: Rows) -> Floats:
        """Return the class probabilities, of shape (rows, classes) in the order of `classes`.

        Raises InvalidInput as `predict` does.
        """
        if self.plan and self.plan.has_probabilities:
            probabilities = self.plan.probabilities(rows)
            if probabilities is not None:
                return probabilities
        return self._probabilities_by_estimator(rows)

    @property
    def has_labels(self) -> bool:
        """Return whether each prediction is one class, which has a label."""
        return bool(self.labels) and not self.has_several_outputs

    def example_rows(self) -> Rows:
        """Return rows that the model can score: those of its card, or one that the test found."""
        if self.card is None:
            return self._trial_row
        return self.signature.to_rows([reference.features for reference in self.card.reference])

    def self_test(self) -> None:
        """Raise ModelError unless the model reproduces the reference rows of its card.

        Without a card, raise it unless the model can score a row.
        """
        if self.card is None:
            self.has_several_outputs = self._score_trial_row().ndim > 1
            return
        self._check_reference_rows(self.card, self.predict, self.probabilities)

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
        rows = self.example_rows()
        expected_predictions = [reference.prediction for reference in card.reference]
        if not values_match(predict(rows).tolist(), expected_predictions):
            return False
        if not self.has_probabilities:
            return True

        expected_probabilities = [reference.probability for reference in card.reference]
        return values_match(predict_probabilities(rows).tolist(), expected_probabilities)

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

    def _count_features(self) -> int:
        """Return the number of features that the estimator remembers."""
        # CatBoost forgets the number when it is pickled, and then has 0.
        n_features = getattr(self.estimator, "n_features_in_", 0)
        if not n_features:
            raise ModelError(
                f"{type(self.estimator).__name__} does not say how many features it has: "
                f"{CARD_REMEDY}"
            )
        return int(n_features)

    def _without_axis(self, predictions: Array) -> Array:
        """Return the predictions of a classifier without the second axis that CatBoost adds."""
        if isinstance(self.classes, np.ndarray) and predictions.shape[1:] == (1,):
            return predictions[:, 0]
        return predictions

    def _check_card(self) -> None:
        """Raise ModelError if the card and the estimator disagree on classes or features."""
        if isinstance(self.classes, np.ndarray):
            card_classes = list(self.labels)
            estimator_classes = self.classes.tolist()
            if card_classes != estimator_classes:
                raise ModelError(
                    f"model card lists classes {card_classes}, "
                    f"but the estimator has {estimator_classes}"
                )

        # CatBoost forgets the number when it is pickled, and then has 0.
        n_features_in = getattr(self.estimator, "n_features_in_", 0) or self.n_features
        if n_features_in != self.n_features:
            raise ModelError(
                f"model card lists {self.n_features} features, "
                f"but the estimator has {n_features_in}"
            )

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

        if not _is_finite(result):
            row = int(np.argwhere(~np.isfinite(result))[0][0])
            raise InvalidInput(f"The model has no finite prediction for row {row}")
        return result

    def _describe_rejection(self, rows: Rows) -> str:
        unseen = self.signature.find_unseen_category(rows)
        if unseen is None:
            return "The model cannot score these values"
        row, feature = unseen
        return f"The model cannot score the category of `{feature}` in row {row}"


def _is_finite(predictions: Array) -> bool:
    return predictions.dtype.kind != "f" or bool(np.isfinite(predictions).all())


def _check_trial(predictions: Array) -> None:
    """Raise ValueError or TypeError unless there is a prediction for one row, as JSON has it."""
    if predictions.ndim not in (1, 2) or len(predictions) != 1:
        raise ValueError(f"the predictions for a row have the shape {predictions.shape}")
    if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
        raise ValueError("the prediction is not finite")
    msgspec.json.encode(predictions.tolist())
