"""The prediction plan of a fitted estimator."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from serving.model.arrays import Array, Floats, Rows
from serving.model.plans.bayes import GaussianBayesPredictor
from serving.model.plans.columns import (
    CategoryColumn,
    Column,
    NoPlanError,
    NumberColumn,
    is_of_sklearn,
)
from serving.model.plans.ensembles import (
    BoostingPredictor,
    ForestPredictor,
    decision_tree,
    forest,
    gradient_boosting,
    histogram_boosting,
)
from serving.model.plans.linear import linear_predictor
from serving.model.plans.matrix import MatrixBuilder
from serving.model.plans.networks import network
from serving.model.plans.support_vectors import SupportVectorClassifier, SupportVectorRegressor
from serving.model.plans.transformers import transformed_columns
from serving.model.signature import Signature

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Predictor(Protocol):
    """The last step of an estimator, for a matrix of numbers within float32."""

    @property
    def name(self) -> str:
        """Return what the plan is called."""

    @property
    def takes_missing(self) -> bool:
        """Return whether NaN is a value."""

    @property
    def has_probabilities(self) -> bool:
        """Return whether it is a classifier that has them."""

    @property
    def max_rows(self) -> int | None:
        """Return the number of rows above which the estimator is quicker, if there is one."""

    def predict(self, rows: Floats) -> Array:
        """Return the predictions, of shape (rows,) or (rows, outputs)."""


PREDICTORS: dict[str, Callable[[Any], Predictor]] = {
    "DecisionTreeClassifier": decision_tree,
    "DecisionTreeRegressor": decision_tree,
    "ExtraTreeClassifier": decision_tree,
    "ExtraTreeRegressor": decision_tree,
    "ExtraTreesClassifier": forest,
    "ExtraTreesRegressor": forest,
    "GaussianNB": GaussianBayesPredictor,
    "GradientBoostingClassifier": gradient_boosting,
    "GradientBoostingRegressor": gradient_boosting,
    "HistGradientBoostingClassifier": histogram_boosting,
    "HistGradientBoostingRegressor": histogram_boosting,
    "MLPClassifier": network,
    "MLPRegressor": network,
    "NuSVC": SupportVectorClassifier,
    "NuSVR": SupportVectorRegressor,
    "RandomForestClassifier": forest,
    "RandomForestRegressor": forest,
    "SVC": SupportVectorClassifier,
    "SVR": SupportVectorRegressor,
}
# They predict with the best estimator that they found.
SEARCHES = frozenset({"GridSearchCV", "RandomizedSearchCV"})


class Plan:
    """How to predict as an estimator does, without asking it.

    Each method returns None for rows that the estimator is to be asked with.
    """

    def __init__(
        self, predictor: Predictor, columns: list[Column], builder: MatrixBuilder | None
    ) -> None:
        self.predictor = predictor
        self._columns = columns
        self.name = predictor.name
        self.has_probabilities = predictor.has_probabilities
        # Regressors have no such method.
        self._probabilities: Any = getattr(predictor, "probabilities", None)
        self._builder = builder

    def predict(self, rows: Rows) -> Array | None:
        """Return the predictions for `rows`, of shape (rows, features)."""
        matrix = self._matrix(rows)
        if matrix is None:
            return None
        return self.predictor.predict(matrix)

    def probabilities(self, rows: Rows) -> Floats | None:
        """Return the class probabilities for `rows`, of shape (rows, features)."""
        matrix = self._matrix(rows)
        if matrix is None:
            return None
        probabilities: Floats = self._probabilities(matrix)
        return probabilities

    def split_points(self) -> dict[int, list[float]]:
        """Return the values of each feature, by its index, at which the prediction may jump."""
        points: dict[int, list[float]] = {}
        if not isinstance(self.predictor, ForestPredictor | BoostingPredictor):
            return points
        for output, threshold in self.predictor.trees.thresholds():
            column = self._columns[output]
            if isinstance(column, NumberColumn):
                points.setdefault(column.source, []).append(column.value_before(threshold))
        return points

    def _matrix(self, rows: Rows) -> Floats | None:
        max_rows = self.predictor.max_rows
        if max_rows is not None and len(rows) > max_rows:
            return None
        if self._builder is None:
            return rows

        # What is not finite is left to the estimator.
        with np.errstate(all="ignore"):
            matrix = self._builder.build(rows)
        if matrix is None:
            return None
        # A missing value is not below the limit either.
        if self.predictor.takes_missing:
            is_in_range = not (np.abs(matrix) > FLOAT32_MAX).any()
        else:
            is_in_range = bool((np.abs(matrix) <= FLOAT32_MAX).all())
        return matrix if is_in_range else None


def build_plan(estimator: Any, signature: Signature, n_features: int) -> Plan:
    """Return the plan of a fitted estimator. Raises NoPlanError if it has none."""
    if signature.input_kind == "texts":
        raise NoPlanError("a model of texts")

    columns: list[Column] = [NumberColumn(index) for index in range(n_features)]
    for index, feature in enumerate(signature.features):
        if feature.type in ("category", "text"):
            columns[index] = CategoryColumn(index)
    rows_are_matrix = signature.is_numeric and not signature.has_missing
    features = list(columns)

    *transformers, predictor = _flat_steps(estimator)
    if type(predictor).__name__.startswith("HistGradientBoosting"):
        transformers.append(predictor._preprocessor)
    for transformer in transformers:
        columns = transformed_columns(transformer, columns)

    builder = None
    if columns != features or not rows_are_matrix:
        unseen_is_missing = [
            index
            for index, feature in enumerate(signature.features)
            if feature.dtype in ("category", "Enum")
        ]
        builder = MatrixBuilder(columns, frozenset(unseen_is_missing))
    return Plan(_predictor(predictor), columns, builder)


def _flat_steps(estimator: Any) -> list[Any]:
    """Return the transformers of an estimator, and its last step."""
    if not is_of_sklearn(estimator):
        return [estimator]
    kind = type(estimator).__name__
    if kind in SEARCHES:
        return _flat_steps(estimator.best_estimator_)
    if kind != "Pipeline":
        return [estimator]
    steps = [step for _, step in estimator.steps]
    return [*steps[:-1], *_flat_steps(steps[-1])]


def _predictor(estimator: Any) -> Predictor:
    make_predictor = PREDICTORS.get(type(estimator).__name__)
    if make_predictor and is_of_sklearn(estimator):
        return make_predictor(estimator)
    return linear_predictor(estimator)
