"""The model card: what is known about a model, and the answers that it must give."""

from typing import Any

import msgspec
import numpy as np

# The class value or the number that a model predicts, as a plain Python value.
PredictionValue = bool | int | float | str

# Far below any difference that matters, far above the rounding of another BLAS or processor.
RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9


class FeatureInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature, with the distribution of its values in the training rows.

    `shares[i]` is the share of the training rows between `edges[i]` and `edges[i + 1]`.
    """

    name: str
    unit: str | None
    minimum: float
    maximum: float
    edges: list[float]
    shares: list[float]


class ClassInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class: the value that the estimator returns, its label, its share of training rows."""

    value: PredictionValue
    label: str
    share: float


class ReferenceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row with the prediction and the class probabilities computed when it was saved."""

    features: list[float]
    prediction: Any
    probability: list[float] | None


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of a pickled estimator, tied to it by the SHA-256 of the pickle."""

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
