"""What training tells: the report on the terminal, and the metrics of the model card."""

from typing import Any

from serving.training.dataset import TrainingData
from serving.training.evaluation import METRIC_NAMES, Evaluation

MAX_PRINTED_CLASSES = 20


def print_report(
    estimator: Any, data: TrainingData, evaluation: Evaluation, classes: list[Any]
) -> None:
    """Print the data, the metrics and, of a classifier, the confusion matrix."""
    name = " ".join(str(estimator).split())
    description = f"{name} on {len(data.rows)} rows of {len(data.features)} features"
    if classes:
        description += f", {len(classes)} classes"
    print(description)

    for key, values in evaluation.fold_metrics.items():
        print(
            f"  cross-validation  {METRIC_NAMES[key]} {values.mean():.3f} +- {values.std():.3f} "
            f"over {len(values)} folds"
        )
    n_held_out = len(evaluation.y_held_out)
    for key, value in evaluation.held_out_metrics.items():
        print(f"  held out          {METRIC_NAMES[key]} {value:.3f} over {n_held_out} rows")

    if 0 < len(classes) <= MAX_PRINTED_CLASSES:
        print("  held-out rows, rows actual, columns predicted:")
        for value, counts in zip(classes, evaluation.confusion(classes), strict=True):
            columns = " ".join(f"{count:4d}" for count in counts)
            print(f"    {data.label(value):>12} {columns}")


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
    if classes:
        held_out["confusion_matrix"] = evaluation.confusion(classes)
    return {"cross_validation": cross_validation, "held_out": held_out}
