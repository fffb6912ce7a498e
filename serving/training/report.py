"""The report of a training on the terminal."""

from serving.model.card import METRIC_NAMES
from serving.model.storage import describe_estimator
from serving.training.training import TrainedModel

MAX_PRINTED_CLASSES = 20


def print_report(model: TrainedModel) -> None:
    """Print the data, the metrics and, of a classifier, the confusion matrix."""
    data = model.data
    evaluation = model.evaluation
    classes = model.classes
    name = describe_estimator(model.estimator)
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
