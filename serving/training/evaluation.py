"""Evaluation: the metrics of an estimator on rows that it was not fitted on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate, train_test_split
from sklearn.utils import get_tags

from serving.model.arrays import Array, Floats
from serving.training.dataset import TrainingData

SEED = 0
FOLDS = 5
HELD_OUT_SHARE = 0.2

# The metric that decides whether a model is written and promoted, by task. More is better.
MAIN_METRICS = {"classifier": "accuracy", "regressor": "r2"}


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one estimator; without a target there are none."""

    main_metric: str | None
    fold_metrics: dict[str, Floats]  # each of shape (folds,), over all rows
    held_out_metrics: dict[str, float]
    held_out_indices: Array
    y_held_out: Array
    y_predicted: Array  # for the held-out rows
    cross_validated: Array | None  # predictions for all rows, by folds that had not seen them

    @property
    def lowest_score(self) -> float:
        """Return the lower of the cross-validated and the held-out main metric."""
        if self.main_metric is None:
            return np.inf
        folds = self.fold_metrics[self.main_metric]
        return min(float(folds.mean()), self.held_out_metrics[self.main_metric])

    def confusion(self, classes: list[Any]) -> list[list[int]]:
        """Return the confusion matrix of the held-out rows, of shape (actual, predicted)."""
        matrix = confusion_matrix(self.y_held_out, self.y_predicted, labels=classes)
        return matrix.tolist()  # type: ignore[no-any-return]


def evaluate(data: TrainingData, build_estimator: Callable[[], Any]) -> Evaluation:
    """Measure the estimator by cross-validation and on held-out rows."""
    task = get_tags(build_estimator()).estimator_type
    if data.y is None or task not in MAIN_METRICS:
        no_rows = np.array([], dtype=int)
        return Evaluation(None, {}, {}, no_rows, no_rows, no_rows, None)

    is_stratified = task == "classifier" and data.y.ndim == 1
    folds = cross_validate(
        build_estimator(),
        data.X,
        data.y,
        cv=choose_folds(data.y, is_stratified),
        scoring=measure,
        error_score="raise",
        return_estimator=True,
        return_indices=True,
    )
    fold_metrics = {}
    for key in folds:
        if key.startswith("test_"):
            fold_metrics[key.removeprefix("test_")] = folds[key]

    rows = np.arange(len(data.y))
    stratify = data.y if is_stratified else None
    fit_rows, held_out_rows = train_test_split(
        rows, test_size=HELD_OUT_SHARE, stratify=stratify, random_state=SEED
    )
    estimator = build_estimator().fit(take(data.X, fit_rows), data.y[fit_rows])
    X_held_out = take(data.X, held_out_rows)
    y_held_out = data.y[held_out_rows]

    return Evaluation(
        main_metric=MAIN_METRICS[task],
        fold_metrics=fold_metrics,
        held_out_metrics=measure(estimator, X_held_out, y_held_out),
        held_out_indices=held_out_rows,
        y_held_out=y_held_out,
        y_predicted=predict(estimator, X_held_out, y_held_out),
        cross_validated=predict_folds(data, folds, data.y),
    )


def choose_folds(y: Array, is_stratified: bool) -> Any:
    """Return the folds: of a classifier each with the same share of every class."""
    if not is_stratified:
        return KFold(FOLDS, shuffle=True, random_state=SEED)
    _, class_counts = np.unique(y, return_counts=True)
    n_folds = int(min(FOLDS, max(class_counts.min(), 2)))
    return StratifiedKFold(n_folds, shuffle=True, random_state=SEED)


def measure(estimator: Any, X: Any, y: Array) -> dict[str, float]:
    """Return the metrics of a fitted estimator on rows that it was not fitted on."""
    predicted = predict(estimator, X, y)
    if get_tags(estimator).estimator_type == "regressor":
        return {
            "r2": float(r2_score(y, predicted)),
            "mae": float(mean_absolute_error(y, predicted)),
        }

    if y.ndim > 1:
        # A row with several outputs is correct if all of them are.
        return {"accuracy": float((predicted == y).all(axis=1).mean())}
    metrics = {"accuracy": float(accuracy_score(y, predicted))}
    if len(estimator.classes_) == 2:
        is_second_class = y == estimator.classes_[1]
        scores = score_second_class(estimator, X)
        if scores is not None and len(np.unique(is_second_class)) == 2:
            metrics["roc_auc"] = float(roc_auc_score(is_second_class, scores))
            metrics["average_precision"] = float(average_precision_score(is_second_class, scores))
    return metrics


def predict(estimator: Any, X: Any, y: Array) -> Array:
    """Return predictions in the shape of the targets `y`; CatBoost returns a column."""
    return np.asarray(estimator.predict(X)).reshape(y.shape)


def score_second_class(estimator: Any, X: Any) -> Floats | None:
    """Return a score that rises with the probability of the second of two classes, if any."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)[:, 1]  # type: ignore[no-any-return]
    if hasattr(estimator, "decision_function"):
        return estimator.decision_function(X)  # type: ignore[no-any-return]
    return None


def predict_folds(data: TrainingData, folds: dict[str, Any], y: Array) -> Array:
    """Return the prediction for each row by the estimator that was not fitted on it."""
    predictions = []
    for estimator, test_rows in zip(folds["estimator"], folds["indices"]["test"], strict=True):
        predictions.append(predict(estimator, take(data.X, test_rows), y[test_rows]))

    order = np.argsort(np.concatenate(folds["indices"]["test"]))
    return np.concatenate(predictions)[order]


def take(X: Any, rows: Array) -> Any:
    """Return some rows of an array, a DataFrame or a list."""
    if isinstance(X, list):
        return [X[row] for row in rows]
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows]


def describe_metrics(evaluation: Evaluation, classes: list[Any]) -> dict[str, Any]:
    """Return the metrics of the model card."""
    if evaluation.main_metric is None:
        return {}

    cross_validation: dict[str, Any] = {}
    for key, values in evaluation.fold_metrics.items():
        cross_validation[key] = float(values.mean())
    folds = evaluation.fold_metrics[evaluation.main_metric]
    cross_validation |= {"std": float(folds.std()), "folds": folds.tolist()}

    held_out: dict[str, Any] = dict(evaluation.held_out_metrics)
    held_out["rows"] = len(evaluation.y_held_out)
    # A row of several labels is in several classes.
    if classes and evaluation.y_held_out.ndim == 1:
        held_out["confusion_matrix"] = evaluation.confusion(classes)
    return {"cross_validation": cross_validation, "held_out": held_out}
