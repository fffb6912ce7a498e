"""The command line of train.py: train a model, measure it, write it with its model card."""

import argparse
import csv
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import get_tags

from serving.model.card import ClassInfo, FeatureInfo, ModelCard
from serving.model.errors import InvalidInput, ModelError
from serving.model.storage import save_model
from serving.training.dataset import Dataset, TrainingData, digest_content
from serving.training.evaluation import METRIC_NAMES, Evaluation, evaluate
from serving.training.features import DataError, describe_feature, to_column
from serving.training.report import describe_metrics, print_report

MAX_REFERENCE_ROWS = 10


def train(
    name: str,
    load_data: Callable[[], Dataset],
    build_estimator: Callable[[], Any],
    *,
    output: Path,
    min_score: float | None = None,
    coefficient_decimals: int | None = None,
) -> None:
    """Run the command line: train the model called `name`, or end with status 1 and one line.

    `output` is the default path of the model. Below `min_score`, a share of 1, of accuracy or R2
    nothing is written. The coefficients of a linear model are rounded to `coefficient_decimals`.
    """
    options = parse_options(output, min_score)
    register = None
    if options.register:
        register = import_register()

    try:
        data = TrainingData(load_data())
        evaluation = evaluate(data, build_estimator)
        estimator = fit_served_estimator(data, build_estimator, coefficient_decimals)
        classes = list_classes(estimator)
        print_report(build_estimator(), data, evaluation, classes)
        check_score(options, evaluation)
        card = write_model(options.output, name, estimator, data, evaluation)
    except (DataError, ModelError, InvalidInput) as error:
        sys.exit(f"refused: {error}; {options.output} is unchanged")

    card_path = options.output.with_suffix(".json")
    print(f"wrote {options.output} and {card_path.name}, version {card.sha256[:12]}")
    if options.held_out:
        write_held_out(options.held_out, data, evaluation)
    if register:
        register(["register", options.register, "--model", str(options.output)])


def parse_options(output: Path, min_score: float | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="Train the model, measure it, and write model.pkl with its model card."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=output,
        metavar="PATH",
        help="the model file to write; the model card is written beside it",
    )

    parser.add_argument(
        "--min-score",
        type=float,
        default=min_score,
        metavar="SHARE",
        help="write nothing below this accuracy, or R2 of a regressor; default: %(default)s",
    )

    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="PATH",
        help="write the actual and predicted values of the held-out rows to this CSV file",
    )

    parser.add_argument(
        "--register", metavar="NAME", help="register the model in MLflow as a version of NAME"
    )
    return parser.parse_args()


def import_register() -> Callable[[list[str]], None]:
    """Return the registry's command line, or end with status 1 if its libraries are missing."""
    try:
        from serving.registry.commands import main as registry_main
    except ImportError as error:
        sys.exit(str(error))
    return registry_main


def fit_served_estimator(
    data: TrainingData, build_estimator: Callable[[], Any], coefficient_decimals: int | None
) -> Any:
    """Return the estimator fitted on all rows."""
    estimator = build_estimator().fit(data.X, data.y)

    # Without the digits that depend on the processor, model.pkl has the same bytes on all of them.
    if coefficient_decimals is not None:
        estimator.coef_ = estimator.coef_.round(coefficient_decimals)
        estimator.intercept_ = estimator.intercept_.round(coefficient_decimals)
    return estimator


def list_classes(estimator: Any) -> list[Any]:
    """Return the classes of a classifier with one output, as Python values."""
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray):
        return []
    values: list[Any] = classes.tolist()
    return values


def check_score(options: argparse.Namespace, evaluation: Evaluation) -> None:
    """Raise DataError if the model is worse than it has to be."""
    if options.min_score is None or evaluation.main_metric is None:
        return
    if evaluation.lowest_score < options.min_score:
        metric = METRIC_NAMES[evaluation.main_metric]
        raise DataError(f"{metric} {evaluation.lowest_score:.3f} is below {options.min_score}")


def write_model(
    path: Path, name: str, estimator: Any, data: TrainingData, evaluation: Evaluation
) -> ModelCard:
    """Write the fitted estimator with its model card, and return the card."""
    classes = list_classes(estimator)
    held_out = evaluation.held_out_indices

    return save_model(
        path,
        estimator,
        name=name,
        features=data.features,
        classes=describe_classes(data, classes),
        rows=len(data.rows),
        metrics=describe_metrics(evaluation, classes),
        data={
            "source": data.dataset.source,
            "sha256": digest(data.rows, data.y),
            "held_out_sha256": digest(data.rows[held_out], evaluation.y_held_out),
        },
        reference=data.rows[choose_reference_rows(data, classes)],
        task=get_tags(estimator).estimator_type,
        input=data.input_kind,
        prediction=describe_predictions(evaluation),
    )


def describe_classes(data: TrainingData, classes: list[Any]) -> list[ClassInfo]:
    """Return the value, label and share of each class."""
    described = []
    for value in classes:
        share = float((data.y == value).mean())
        described.append(ClassInfo(value=value, label=data.label(value), share=share))
    return described


def describe_predictions(evaluation: Evaluation) -> FeatureInfo | None:
    """Return the distribution of a regressor's predictions for rows that it had not seen."""
    predictions = evaluation.cross_validated
    if predictions is None or predictions.ndim > 1:
        return None
    return describe_feature(to_column("prediction", predictions), "number")


def choose_reference_rows(data: TrainingData, classes: list[Any]) -> list[int]:
    """Return the rows of the self-test: the first of each class, and one with a missing value."""
    rows = list(range(min(3, len(data.rows))))
    if classes and data.y is not None:
        rows = [int(np.argmax(data.y == value)) for value in classes[:MAX_REFERENCE_ROWS]]

    for row, values in enumerate(data.signature.to_values(data.rows)):
        if None in values:
            rows.append(row)
            break
    return list(dict.fromkeys(rows))


def write_held_out(path: Path, data: TrainingData, evaluation: Evaluation) -> None:
    """Write the actual and the predicted value of each held-out row to a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["actual", "predicted"])
        for actual, predicted in zip(
            evaluation.y_held_out.tolist(), evaluation.y_predicted.tolist(), strict=True
        ):
            writer.writerow([describe_value(data, actual), describe_value(data, predicted)])


def describe_value(data: TrainingData, value: Any) -> Any:
    """Return the label of a class, or any other prediction as it is."""
    if isinstance(value, list):
        return value
    return data.dataset.labels.get(value, value)


def digest(*arrays: Any) -> str:
    """Return the SHA-256 of the values of `arrays`."""
    return hashlib.sha256(digest_content(*arrays)).hexdigest()
