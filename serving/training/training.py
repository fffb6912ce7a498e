"""Training: fit an estimator, measure it, and write it with its model card."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import get_tags

from serving.model.card import ClassInfo, FeatureInfo, ModelCard
from serving.model.storage import save_model
from serving.training.dataset import Dataset, TrainingData, digest_content
from serving.training.evaluation import Evaluation, describe_metrics, evaluate
from serving.training.features import describe_feature, to_column

MAX_REFERENCE_ROWS = 10


@dataclass(frozen=True)
class TrainedModel:
    """An estimator that was fitted on all rows, with its data and its evaluation."""

    name: str
    estimator: Any
    data: TrainingData
    evaluation: Evaluation
    classes: list[Any]  # as Python values; empty unless it is a classifier with one output


def train_model(
    name: str,
    dataset: Dataset,
    build_estimator: Callable[[], Any],
    coefficient_decimals: int | None = None,
) -> TrainedModel:
    """Measure and fit an estimator on `dataset`.

    The coefficients of a linear model are rounded to `coefficient_decimals`. Raises DataError.
    """
    data = TrainingData(dataset)
    evaluation = evaluate(data, build_estimator)
    estimator = build_estimator().fit(data.X, data.y)

    # Without the digits that depend on the processor, model.pkl has the same bytes on all of them.
    if coefficient_decimals is not None:
        estimator.coef_ = estimator.coef_.round(coefficient_decimals)
        estimator.intercept_ = estimator.intercept_.round(coefficient_decimals)
    return TrainedModel(name, estimator, data, evaluation, list_classes(estimator))


def list_classes(estimator: Any) -> list[Any]:
    """Return the classes of a classifier with one output, as Python values."""
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray):
        return []
    values: list[Any] = classes.tolist()
    return values


def write_model(path: Path, model: TrainedModel) -> ModelCard:
    """Write the estimator with its model card, and return the card.

    Raises ModelError, InvalidInput and OSError as `save_model` does.
    """
    data = model.data
    evaluation = model.evaluation
    held_out = evaluation.held_out_indices

    return save_model(
        path,
        model.estimator,
        name=model.name,
        features=data.features,
        classes=describe_classes(model),
        rows=len(data.rows),
        metrics=describe_metrics(evaluation, model.classes),
        data={
            "source": data.dataset.source,
            "sha256": digest(data.rows, data.y),
            "held_out_sha256": digest(data.rows[held_out], evaluation.y_held_out),
        },
        reference=data.rows[choose_reference_rows(model)],
        training_rows=data.rows,
        task=get_tags(model.estimator).estimator_type,
        input=data.input_kind,
        prediction=describe_predictions(evaluation),
    )


def describe_classes(model: TrainedModel) -> list[ClassInfo]:
    """Return the value, label and share of each class."""
    predicted = model.evaluation.cross_validated

    described = []
    for value in model.classes:
        predicted_share = None
        if predicted is not None:
            predicted_share = float((predicted == value).mean())
        described.append(
            ClassInfo(
                value=value,
                label=model.data.label(value),
                share=float((model.data.y == value).mean()),
                predicted_share=predicted_share,
            )
        )
    return described


def describe_predictions(evaluation: Evaluation) -> FeatureInfo | None:
    """Return the distribution of a regressor's predictions for rows that it had not seen."""
    predictions = evaluation.cross_validated
    if predictions is None or predictions.ndim > 1 or evaluation.main_metric != "r2":
        return None
    return describe_feature(to_column("prediction", predictions), "number")


def choose_reference_rows(model: TrainedModel) -> list[int]:
    """Return the rows of the self-test: the first of each class, and one with a missing value."""
    data = model.data
    rows = list(range(min(3, len(data.rows))))
    if model.classes and data.y is not None:
        # With several labels a row is of a class if one of its labels is.
        labels = data.y.reshape(len(data.rows), -1)
        rows = []
        for value in model.classes[:MAX_REFERENCE_ROWS]:
            rows.append(int(np.argmax((labels == value).any(axis=1))))

    for row, values in enumerate(data.signature.to_values(data.rows)):
        if None in values:
            rows.append(row)
            break
    return list(dict.fromkeys(rows))


def digest(*arrays: Any) -> str:
    """Return the SHA-256 of the values of `arrays`."""
    return hashlib.sha256(digest_content(*arrays)).hexdigest()
