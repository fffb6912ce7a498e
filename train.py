"""Train the model, measure it, and write model.pkl with its model card.

For a model of your own change what stands above `main`: the constants, the data, the estimator.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split

from serving.model.card import ClassInfo, FeatureInfo, ModelCard
from serving.model.storage import save_model
from serving.monitoring.drift import bin_shares, quantile_edges

NAME = "iris"
MIN_ACCURACY = 0.9
SEED = 0
FOLDS = 5
HELD_OUT_SHARE = 0.2
COEFFICIENT_DECIMALS = 9

Array = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """The training data: `X` of shape (rows, features), `y` of shape (rows,)."""

    X: Array
    y: Array
    feature_names: list[str]  # with the unit in parentheses, if there is one
    labels: list[str]  # of the classes, in the order of their values
    source: str


def load_dataset() -> Dataset:
    """Return the data that the model is trained on."""
    iris = load_iris()

    return Dataset(
        X=iris.data,
        y=iris.target,
        feature_names=list(iris.feature_names),
        labels=iris.target_names.tolist(),
        source="sklearn.datasets.load_iris",
    )


def build_estimator() -> LogisticRegression:
    """Return the estimator, not yet fitted."""
    # The default solver, lbfgs, stops near the optimum, at a point that depends on the rounding of
    # the processor and the number of its threads. Newton's method gets within 1e-11 of the optimum.
    return LogisticRegression(max_iter=200, solver="newton-cholesky", tol=1e-10)


def fit_served_estimator(dataset: Dataset) -> LogisticRegression:
    """Return the estimator fitted on all rows."""
    estimator = build_estimator().fit(dataset.X, dataset.y)

    # Without the digits that depend on the processor, model.pkl has the same bytes on all of them.
    estimator.coef_ = estimator.coef_.round(COEFFICIENT_DECIMALS)
    estimator.intercept_ = estimator.intercept_.round(COEFFICIENT_DECIMALS)
    return estimator


def main() -> None:
    """Train, print a report and write the files, or end with status 1 and leave the old files."""
    options = parse_options()
    register = import_register() if options.register else None

    dataset = load_dataset()
    evaluation = evaluate(dataset)
    print_report(dataset, evaluation)

    if evaluation.lowest_accuracy < options.min_accuracy:
        sys.exit(
            f"refused: an accuracy is below {options.min_accuracy}; {options.output} is unchanged"
        )

    card = write_model(options.output, dataset, evaluation)
    card_path = options.output.with_suffix(".json")
    print(f"wrote {options.output} and {card_path.name}, version {card.sha256[:12]}")

    if options.held_out:
        write_held_out(options.held_out, dataset, evaluation)
    if register:
        register(["register", options.register, "--model", str(options.output)])


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="Train the model, measure it, and write model.pkl with its model card."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("model.pkl"),
        metavar="PATH",
        help="the model file to write; the model card is written beside it",
    )

    parser.add_argument(
        "--min-accuracy",
        type=float,
        default=MIN_ACCURACY,
        metavar="SHARE",
        help="write nothing below this accuracy; default: %(default)s",
    )

    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="PATH",
        help="write the actual and predicted labels of the held-out rows to this CSV file",
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


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on rows that the estimator was not fitted on."""

    fold_accuracies: Array  # of shape (FOLDS,), over all rows
    X_held_out: Array
    y_held_out: Array
    y_predicted: Array  # for the held-out rows

    @property
    def held_out_accuracy(self) -> float:
        """Return the share of the held-out rows that are predicted correctly."""
        return float(accuracy_score(self.y_held_out, self.y_predicted))

    @property
    def confusion(self) -> Array:
        """Return the confusion matrix of the held-out rows, of shape (actual, predicted)."""
        matrix: Array = confusion_matrix(self.y_held_out, self.y_predicted)
        return matrix

    @property
    def lowest_accuracy(self) -> float:
        """Return the lower of the cross-validated and the held-out accuracy."""
        return min(float(self.fold_accuracies.mean()), self.held_out_accuracy)


def evaluate(dataset: Dataset) -> Evaluation:
    """Measure the estimator by cross-validation and on held-out rows."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    fold_accuracies = cross_val_score(build_estimator(), dataset.X, dataset.y, cv=folds)

    X_fit, X_held_out, y_fit, y_held_out = train_test_split(
        dataset.X,
        dataset.y,
        test_size=HELD_OUT_SHARE,
        stratify=dataset.y,
        random_state=SEED,
    )
    y_predicted = build_estimator().fit(X_fit, y_fit).predict(X_held_out)

    return Evaluation(fold_accuracies, X_held_out, y_held_out, y_predicted)


def print_report(dataset: Dataset, evaluation: Evaluation) -> None:
    """Print the accuracies and the confusion matrix."""
    n_rows, n_features = dataset.X.shape
    folds = evaluation.fold_accuracies
    n_held_out = len(evaluation.y_held_out)

    print(
        f"{build_estimator()} on {n_rows} rows of {n_features} features, "
        f"{len(dataset.labels)} classes"
    )
    print(
        f"  cross-validation  accuracy {folds.mean():.3f} +- {folds.std():.3f} over {FOLDS} folds"
    )

    print(
        f"  held out          accuracy {evaluation.held_out_accuracy:.3f} over {n_held_out} rows; "
        "rows actual, columns predicted:"
    )
    for label, counts in zip(dataset.labels, evaluation.confusion, strict=True):
        columns = " ".join(f"{count:4d}" for count in counts)
        print(f"    {label:>12} {columns}")


def write_model(path: Path, dataset: Dataset, evaluation: Evaluation) -> ModelCard:
    """Fit the estimator on all rows, write it with its model card, and return the card."""
    estimator = fit_served_estimator(dataset)
    _, first_row_of_each_class = np.unique(dataset.y, return_index=True)

    return save_model(
        path,
        estimator,
        name=NAME,
        features=describe_features(dataset),
        classes=describe_classes(dataset, estimator.classes_),
        rows=len(dataset.X),
        metrics=describe_metrics(evaluation),
        data={
            "source": dataset.source,
            "sha256": digest(dataset.X, dataset.y),
            "held_out_sha256": digest(evaluation.X_held_out, evaluation.y_held_out),
        },
        reference=dataset.X[first_row_of_each_class],
    )


def describe_features(dataset: Dataset) -> list[FeatureInfo]:
    """Return the name, unit and distribution of each feature."""
    features = []
    for name, column in zip(dataset.feature_names, dataset.X.T, strict=True):
        unit = name.partition("(")[2].rstrip(")")
        edges = quantile_edges(column)

        features.append(
            FeatureInfo(
                name=name,
                unit=unit or None,
                minimum=float(column.min()),
                maximum=float(column.max()),
                edges=edges.tolist(),
                shares=bin_shares(column, edges).tolist(),
            )
        )
    return features


def describe_classes(dataset: Dataset, values: Array) -> list[ClassInfo]:
    """Return the value, label and share of each class."""
    return [
        ClassInfo(value=int(value), label=label, share=float((dataset.y == value).mean()))
        for value, label in zip(values, dataset.labels, strict=True)
    ]


def describe_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics of the model card."""
    folds = evaluation.fold_accuracies

    return {
        "cross_validation": {
            "accuracy": float(folds.mean()),
            "std": float(folds.std()),
            "folds": folds.tolist(),
        },
        "held_out": {
            "accuracy": evaluation.held_out_accuracy,
            "rows": len(evaluation.y_held_out),
            "confusion_matrix": evaluation.confusion.tolist(),
        },
    }


def write_held_out(path: Path, dataset: Dataset, evaluation: Evaluation) -> None:
    """Write the actual and the predicted label of each held-out row to a CSV file."""
    labels = dict(zip(np.unique(dataset.y), dataset.labels, strict=True))

    lines = ["actual,predicted\n"]
    for actual, predicted in zip(evaluation.y_held_out, evaluation.y_predicted, strict=True):
        lines.append(f"{labels[actual]},{labels[predicted]}\n")

    path.write_text("".join(lines))


def digest(*arrays: Array) -> str:
    """Return the SHA-256 of the bytes of `arrays`, one after the other."""
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(array.tobytes())
    return sha256.hexdigest()


if __name__ == "__main__":
    main()
