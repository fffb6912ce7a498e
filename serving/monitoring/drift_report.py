"""The report of GET /drift: how the rows of the window differ from the reference."""

from typing import Any

from serving.model.arrays import Floats
from serving.monitoring.bins import bin_labels
from serving.monitoring.drift import assess_drift
from serving.monitoring.prediction_bins import ClassBins, NumberBins
from serving.monitoring.prediction_counters import (
    INTERVAL_SECONDS,
    WINDOW_INTERVALS,
    PredictionCounts,
)
from serving.monitoring.scope import MonitoringScope


def describe_drift(scope: MonitoringScope, window: PredictionCounts) -> dict[str, Any]:
    """Return a comparison of the window's rows with the reference, for each column."""
    features = _compare_features(scope, window.by_feature)
    columns = list(features)
    classes = None
    prediction = None

    bins = scope.prediction_bins
    if scope.has_prediction_reference:
        comparison = _compare(scope, window.by_prediction, scope.prediction_reference)
        columns.append(comparison)
        if isinstance(bins, ClassBins):
            classes = {"values": bins.values, **comparison}
        if isinstance(bins, NumberBins):
            prediction = {"bins": bins.labels, "edges": bins.distribution.edges, **comparison}

    return {
        "window_seconds": INTERVAL_SECONDS * WINDOW_INTERVALS,
        "rows": window.n_rows,
        "verdict": overall_verdict(columns),
        "features": features,
        "classes": classes,
        "prediction": prediction,
        "not_monitored": scope.exclusions,
    }


def _compare_features(scope: MonitoringScope, counts: Floats) -> list[dict[str, Any]]:
    compared = []
    live_counts = scope.feature_bins.split(counts)
    for feature, live, reference in zip(
        scope.features, live_counts, scope.feature_reference, strict=True
    ):
        described = {"name": feature.name, "bins": bin_labels(feature), "edges": feature.edges}
        compared.append(described | _compare(scope, live, reference))
    return compared


def _compare(scope: MonitoringScope, live: Floats, reference: Floats) -> dict[str, Any]:
    reference_shares = reference / reference.sum()
    live_shares = live / max(live.sum(), 1)
    return {
        **assess_drift(live, reference, scope.n_columns),
        "reference": reference_shares.tolist(),
        "live": live_shares.tolist(),
    }


def overall_verdict(columns: list[dict[str, Any]]) -> str:
    """Return the verdict on all columns, each with a `verdict`."""
    verdicts = [column["verdict"] for column in columns]
    if not verdicts:
        return "no reference"
    if "drifting" in verdicts:
        return "drifting"
    return str(verdicts[0])  # all columns have the same rows, and so the same other verdict
