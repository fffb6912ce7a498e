"""The model card: what is known about a model, and the answers that it must give."""

from typing import Any, Literal

import msgspec
import numpy as np

# The class value or the number that a model predicts, as a plain Python value.
PredictionValue = bool | int | float | str
# The value of a feature in one row; None is a missing value.
FeatureValue = bool | int | float | str | None

FeatureType = Literal["number", "integer", "boolean", "category", "text"]
# What the estimator is asked with: an array, a list of texts, or a DataFrame of a library.
InputKind = Literal["array", "texts", "pandas", "polars"]

# The metrics of a card, as people write them.
METRIC_NAMES = {
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "r2": "R2",
    "mae": "mean absolute error",
}

# Far below any difference that matters, far above the rounding of another BLAS or processor.
RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9


class FeatureInfo(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One feature: its type, and the distribution of its values in the training rows.

    `nullable` tells whether a value may be missing; `missing_share` is the share of the training
    rows without one. `categories` are the values of a category seen in training, and `shares` their
    shares. The shares of a boolean are those of false and true. Otherwise `shares[i]` is the share
    of the training rows between `edges[i]` and `edges[i + 1]`, of a text by its length in
    characters. `dtype` is the type of the column in a DataFrame.
    """

    name: str
    type: FeatureType = "number"
    unit: str | None = None
    nullable: bool = False
    dtype: str | None = None
    categories: list[str | int] = []
    minimum: float | None = None
    maximum: float | None = None
    edges: list[float] = []
    shares: list[float] = []
    missing_share: float = 0.0


class ClassInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class: the value that the estimator returns, its label, its share of training rows.

    `predicted_share` is its share of the predictions for rows that the folds had not seen.
    """

    value: PredictionValue
    label: str
    share: float
    predicted_share: float | None = None


class ReferenceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row with the prediction and the class probabilities computed when it was saved."""

    features: list[FeatureValue]
    prediction: Any
    probability: list[float] | None


class PlanInfo(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """The prediction plan that was compared with the estimator when it was saved.

    `kind` is its name, and `compared_rows` the number of rows; without a plan `reason` says why.
    """

    kind: str | None = None
    compared_rows: int = 0
    reason: str | None = None


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of a pickled estimator, tied to it by the SHA-256 of the pickle.

    `task` is scikit-learn's `estimator_type`, such as "classifier". `input` is what the estimator
    is asked with. `prediction` is the distribution of a regressor's predictions.
    Earlier cards have no `prediction_plan`.
    """

    name: str
    sha256: str
    estimator: str
    libraries: dict[str, str]
    features: list[FeatureInfo]
    classes: list[ClassInfo]
    rows: int
    metrics: dict[str, Any]
    data: dict[str, str]
    reference: list[ReferenceRow]
    task: str | None = None
    input: InputKind = "array"
    prediction: FeatureInfo | None = None
    prediction_plan: PlanInfo | msgspec.UnsetType = msgspec.UNSET
    transformers_sha256: str | msgspec.UnsetType = msgspec.UNSET  # of serving/model/transformers.py


def values_match(actual: Any, expected: Any) -> bool:
    """Return whether two JSON values are equal; lists of numbers may differ by rounding.

    Numbers are compared with a tolerance if either list has a float in it.
    """
    try:
        actual_array = np.asarray(actual)
        expected_array = np.asarray(expected)
    except ValueError:  # the rows of a list have different lengths
        return bool(actual == expected)

    kinds = {actual_array.dtype.kind, expected_array.dtype.kind}
    if "f" not in kinds or not kinds <= set("fiu"):
        return bool(actual == expected)
    if actual_array.shape != expected_array.shape:
        return False
    return np.allclose(
        actual_array, expected_array, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE
    )
