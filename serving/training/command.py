"""The command line of train.py."""

import argparse
import csv
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from serving.model.card import METRIC_NAMES, ModelCard
from serving.model.errors import InvalidInput, ModelError
from serving.training.dataset import Dataset, TrainingData
from serving.training.evaluation import Evaluation
from serving.training.features import DataError
from serving.training.report import print_report
from serving.training.training import train_model, write_model


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
        model = train_model(name, load_data(), build_estimator, coefficient_decimals)
        print_report(model)
        check_score(options, model.evaluation)
        card = write_model(options.output, model)
    except (DataError, ModelError, InvalidInput) as error:
        sys.exit(f"refused: {error}; {options.output} is unchanged")

    card_path = options.output.with_suffix(".json")
    print(f"wrote {options.output} and {card_path.name}, version {card.sha256[:12]}")
    print(f"prediction plan: {describe_plan(card)}")
    print(f"try it: make run, then {example_command(card)}")
    if options.held_out:
        write_held_out(options.held_out, model.data, model.evaluation)
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


def check_score(options: argparse.Namespace, evaluation: Evaluation) -> None:
    """Raise DataError if the model is worse than it has to be."""
    if options.min_score is None or evaluation.main_metric is None:
        return
    if evaluation.lowest_score < options.min_score:
        metric = METRIC_NAMES[evaluation.main_metric]
        raise DataError(f"{metric} {evaluation.lowest_score:.3f} is below {options.min_score}")


def example_command(card: ModelCard) -> str:
    """Return a command that sends the first reference row to a local service."""
    body = msgspec.json.encode({"features": card.reference[0].features}).decode()
    quoted = shlex.quote(body)
    return (
        "curl -X POST http://localhost:5000/predict "
        f'-H "Content-Type: application/json" -d {quoted}'
    )


def describe_plan(card: ModelCard) -> str:
    """Return the prediction plan in a few words, or why there is none."""
    plan = card.prediction_plan
    if not plan or plan.kind is None:
        return f"none, because {plan.reason}" if plan else "none"
    return f"{plan.kind}, which answers as the estimator for {plan.compared_rows} rows"


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
