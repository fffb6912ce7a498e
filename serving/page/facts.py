"""What the page says of the model: its metrics, its classes, its distribution of predictions."""

from dataclasses import dataclass

from serving.model.card import METRIC_NAMES, ModelCard
from serving.model.model import Model
from serving.monitoring.limits import MAX_PAIR_CLASSES
from serving.monitoring.scope import list_classes
from serving.monitoring.telemetry import Telemetry
from serving.page.inputs import describe_prediction


@dataclass(frozen=True)
class Metric:
    """One metric, cross-validated and on the held-out rows; None where it was not measured."""

    name: str
    cross_validation: float | None
    std: float | None
    held_out: float | None


@dataclass(frozen=True)
class ClassOutput:
    """One class with the share of probability that it has at first."""

    label: str
    probability: float | None


def list_metrics(card: ModelCard) -> list[Metric]:
    """Return the metrics of a model card."""
    cross_validation = card.metrics.get("cross_validation", {})
    held_out = card.metrics.get("held_out", {})

    metrics: list[Metric] = []
    for key, name in METRIC_NAMES.items():
        if key not in cross_validation and key not in held_out:
            continue
        std = None
        if not metrics:  # of the main metric, which is the first
            std = cross_validation.get("std")
        metrics.append(Metric(name, cross_validation.get(key), std, held_out.get(key)))
    return metrics


def held_out_confusion(card: ModelCard) -> list[list[int]] | None:
    """Return the confusion matrix of the held-out rows, of shape (actual, predicted).

    There is none for another task, nor for more classes than a page can show.
    """
    matrix: list[list[int]] | None = card.metrics.get("held_out", {}).get("confusion_matrix")
    if matrix is not None and len(matrix) > MAX_PAIR_CLASSES:
        return None
    return matrix


def list_feedback_classes(telemetry: Telemetry) -> list[str]:
    """Return the classes whose pairs are counted in feedback, as its metric has them."""
    feedback = telemetry.feedback
    if feedback is None or feedback.by_class is None or not feedback.by_class.has_pairs:
        return []
    return list(dict.fromkeys(actual for _, actual in feedback.by_class.columns))


def name_feedback_metric(telemetry: Telemetry) -> str:
    """Return the name of the metric that feedback gives, or nothing if it is not counted."""
    if telemetry.feedback is None:
        return ""
    if telemetry.feedback.by_class is None:
        return METRIC_NAMES["mae"]
    return METRIC_NAMES["accuracy"]


def first_prediction(model: Model) -> str:
    """Return the prediction of the first reference row, or nothing without a card."""
    if model.card is None:
        return ""
    return describe_prediction(model, model.card.reference[0].prediction)


def list_class_outputs(model: Model) -> list[ClassOutput]:
    """Return each class with its probability in the first reference row."""
    if model.has_several_outputs:
        return []
    probabilities: list[float] | None = None
    if model.card is not None:
        probabilities = model.card.reference[0].probability

    outputs = []
    for index, label in enumerate(list_class_labels(model)):
        probability = None
        if probabilities is not None:
            probability = probabilities[index]
        outputs.append(ClassOutput(label, probability))
    return outputs


def list_class_labels(model: Model) -> list[str]:
    """Return the label of each class; without a card it is its value."""
    if model.labels:
        return list(model.labels.values())
    return list(map(str, list_classes(model)))
