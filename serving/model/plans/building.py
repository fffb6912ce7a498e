"""The prediction plan that is built from a fitted estimator."""

from collections.abc import Callable
from typing import Any

from serving.model.plans.bayes import gaussian_bayes
from serving.model.plans.columns import (
    CategoryColumn,
    Column,
    NoPlanError,
    NumberColumn,
    is_of_sklearn,
)
from serving.model.plans.ensembles import (
    decision_tree,
    forest,
    gradient_boosting,
    histogram_boosting,
)
from serving.model.plans.linear_estimators import linear_predictor
from serving.model.plans.networks import network
from serving.model.plans.plan import Plan, Predictor
from serving.model.plans.support_vectors import support_vector_classifier, support_vector_regressor
from serving.model.plans.transformers import transformed_columns
from serving.model.signature import Signature

PREDICTORS: dict[str, Callable[[Any], Predictor]] = {
    "DecisionTreeClassifier": decision_tree,
    "DecisionTreeRegressor": decision_tree,
    "ExtraTreeClassifier": decision_tree,
    "ExtraTreeRegressor": decision_tree,
    "ExtraTreesClassifier": forest,
    "ExtraTreesRegressor": forest,
    "GaussianNB": gaussian_bayes,
    "GradientBoostingClassifier": gradient_boosting,
    "GradientBoostingRegressor": gradient_boosting,
    "HistGradientBoostingClassifier": histogram_boosting,
    "HistGradientBoostingRegressor": histogram_boosting,
    "MLPClassifier": network,
    "MLPRegressor": network,
    "NuSVC": support_vector_classifier,
    "NuSVR": support_vector_regressor,
    "RandomForestClassifier": forest,
    "RandomForestRegressor": forest,
    "SVC": support_vector_classifier,
    "SVR": support_vector_regressor,
}
# They predict with the best estimator that they found.
SEARCHES = frozenset({"GridSearchCV", "RandomizedSearchCV"})


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

    unseen_is_missing = []
    for index, feature in enumerate(signature.features):
        if feature.dtype in ("category", "Enum"):
            unseen_is_missing.append(index)
    return Plan(
        _predictor(predictor),
        columns,
        rows_are_matrix=rows_are_matrix and columns == features,
        unseen_is_missing=unseen_is_missing,
    )


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
