"""What a job prints at its end."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.batch.scoring import Scorer
from serving.batch.stats import BatchStats
from serving.model.arrays import Floats
from serving.monitoring.drift_report import describe_drift
from serving.monitoring.prediction_bins import ClassBins
from serving.monitoring.prediction_counters import PredictionCounts


def print_report(
    scorer: Scorer,
    total: BatchStats,
    seconds: float,
    file: Any,
    output: str = "",
    errors_files: Sequence[str] = (),
) -> None:
    """Print the number of rows, the speed, the class mix, the drift, and where the output is."""
    rate = total.rows / max(seconds, 1e-9)
    version = scorer.model.version
    print(
        f"{total.rows} rows in {seconds:.1f} s, {rate:.0f} per second, model version {version}",
        file=file,
    )
    if output:
        print(f"  output    {output}", file=file)
    print(f"  bad rows  {total.n_bad}", file=file)
    for path in errors_files:
        print(f"            {path}", file=file)
    if total.rows == total.n_bad:
        return

    if len(scorer.class_values):
        print(f"  classes   {describe_class_mix(scorer, total)}", file=file)
    print(f"  drift     {list_drifting_columns(scorer, total)}", file=file)


def describe_class_mix(scorer: Scorer, total: BatchStats) -> str:
    """Return the share of each predicted class."""
    shares = total.prediction_counts / total.prediction_counts.sum()
    labels = scorer.labels.to_pylist()
    return ", ".join(f"{label} {share:.3f}" for label, share in zip(labels, shares, strict=True))


def list_drifting_columns(scorer: Scorer, total: BatchStats) -> str:
    """Return the columns that have drifted, with their index, or the verdict on all columns."""
    counts = PredictionCounts(
        total.rows - total.n_bad, count_by_bin(scorer, total), np.asarray(total.feature_counts)
    )
    report = describe_drift(scorer.scope, counts)

    drifting = []
    columns = [
        *report["features"],
        {"name": "classes", **(report["classes"] or {})},
        {"name": "predictions", **(report["prediction"] or {})},
    ]
    for column in columns:
        if column.get("verdict") == "drifting":
            drifting.append(f"{column['name']} {column['psi']:.2f}")
    return ", ".join(drifting) or report["verdict"]


def count_by_bin(scorer: Scorer, total: BatchStats) -> Floats:
    """Return the number of predictions in each bin: classes beyond a limit share one."""
    bins = scorer.scope.prediction_bins
    if not isinstance(bins, ClassBins):
        return np.asarray(total.prediction_counts)
    counts = np.zeros(bins.size)
    np.add.at(counts, list(bins.indices.values()), total.prediction_counts)
    return counts
