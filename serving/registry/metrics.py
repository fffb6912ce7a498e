"""The metrics of a model card: the one that versions are compared by, and those of Amazon."""

from typing import Any

from serving.model.card import ModelCard

# The first that a card has is compared. More is better.
MAIN_METRICS = ("accuracy", "r2")

# Amazon's names of the metrics of a card.
AMAZON_METRICS = {"accuracy": "accuracy", "roc_auc": "auc", "r2": "r2", "mae": "mae"}


def find_main_metric(metrics: dict[str, Any]) -> str | None:
    """Return the key of the metric that versions are compared by; an outlier detector has none."""
    for metric in MAIN_METRICS:
        if metric in metrics:
            return metric
    return None


def list_numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the numbers in the metrics of a card, `{"a": {"b": 1}}` as `{"a.b": 1}`."""
    numbers: dict[str, float] = {}
    for group, value in metrics.items():
        members = {group: value}
        if isinstance(value, dict):
            members = {f"{group}.{name}": member for name, member in value.items()}

        for name, member in members.items():
            if isinstance(member, int | float):
                numbers[name] = member

    return numbers


def describe_quality(card: ModelCard) -> dict[str, Any]:
    """Return the metrics under Amazon's names, which its console shows, or as the card has them."""
    folds = card.metrics.get("cross_validation", {})
    group = _find_amazon_group(card, folds)
    if group is None:
        return card.metrics

    described: dict[str, Any] = {}
    for metric, name in AMAZON_METRICS.items():
        if metric in folds:
            described[name] = {"value": folds[metric]}
    main_metric = find_main_metric(folds)
    if main_metric and "std" in folds:
        described[AMAZON_METRICS[main_metric]]["standard_deviation"] = folds["std"]
    return {group: described}


def _find_amazon_group(card: ModelCard, folds: dict[str, Any]) -> str | None:
    if "r2" in folds:
        return "regression_metrics"
    if "accuracy" not in folds or not card.classes:
        return None  # Amazon has no group for several outputs
    if len(card.classes) == 2:
        return "binary_classification_metrics"
    return "multiclass_classification_metrics"
