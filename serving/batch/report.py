"""What a job prints: its progress, and a report at its end."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from serving.batch.scoring import Scorer
from serving.batch.stats import BatchStats
from serving.model.arrays import Floats
from serving.monitoring.drift_report import describe_drift
from serving.monitoring.prediction_bins import ClassBins
from serving.monitoring.prediction_counters import PredictionCounts

PROGRESS_INTERVAL_SECONDS = 30  # between two lines of progress if stderr is no terminal


class Progress:
    """A progress bar on a terminal, and a line at intervals elsewhere."""

    def __init__(self, total_bytes: int) -> None:
        self.bar = tqdm(unit=" rows", unit_scale=True, disable=None)
        self.total_bytes = total_bytes
        self.completed_bytes = 0
        self.rows = 0
        self.started_at = time.monotonic()
        self.last_reported = self.started_at
        self.printed_notes: set[Sequence[str]] = set()

    def add(self, path: str, n_bytes: int, stats: BatchStats) -> None:
        """Add a block of a file; what was guessed about it is printed, unless it was before."""
        n_rows = stats.rows
        self.completed_bytes += n_bytes
        self.rows += n_rows
        if stats.notes and stats.notes not in self.printed_notes:
            self.printed_notes.add(stats.notes)
            tqdm.write(f"{path}: {', '.join(stats.notes)}", file=sys.stderr)

        # Only Parquet states its number of rows, so the total is estimated from the bytes.
        remaining_factor = max(self.total_bytes / max(self.completed_bytes, 1), 1)
        self.bar.total = int(self.rows * remaining_factor)
        self.bar.update(n_rows)

        now = time.monotonic()
        if self.bar.disable and now - self.last_reported > PROGRESS_INTERVAL_SECONDS:
            self.last_reported = now
            elapsed = now - self.started_at
            line = tqdm.format_meter(
                self.rows, self.bar.total, elapsed, unit=" rows", unit_scale=True
            )
            print(line, file=sys.stderr, flush=True)


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
