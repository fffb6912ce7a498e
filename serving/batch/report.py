"""What a job prints: its progress, and a report at its end."""

import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from serving.batch.scoring import Scorer
from serving.batch.stats import BatchStats
from serving.monitoring.drift import assess_drift
from serving.monitoring.reference import Reference

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

    def add(self, n_bytes: int, n_rows: int) -> None:
        """Add a block."""
        self.completed_bytes += n_bytes
        self.rows += n_rows

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


def print_report(scorer: Scorer, total: BatchStats, seconds: float, file: Any) -> None:
    """Print the number of rows, the speed, the class mix, and the drift from the training data."""
    rate = total.rows / max(seconds, 1e-9)
    version = scorer.model.version
    print(
        f"{total.rows} rows in {seconds:.1f} s, {rate:.0f} per second, model version {version}",
        file=file,
    )
    print(f"  bad rows  {total.n_bad}", file=file)
    if total.rows == total.n_bad:
        return

    reference = Reference(scorer.model)
    if reference.has_classes:
        print(f"  classes   {describe_class_mix(scorer, total)}", file=file)
    print(f"  drift     {describe_drift(scorer, total, reference)}", file=file)


def describe_class_mix(scorer: Scorer, total: BatchStats) -> str:
    """Return the share of each predicted class."""
    shares = total.classes / total.classes.sum()
    labels = scorer.labels.to_pylist()
    return ", ".join(f"{label} {share:.3f}" for label, share in zip(labels, shares, strict=True))


def describe_drift(scorer: Scorer, total: BatchStats, reference: Reference) -> str:
    """Return the columns that have drifted, with their index, or the verdict on all columns."""
    names = [feature.name for feature in reference.features]
    live_counts = scorer.bins.split(np.asarray(total.bin_counts))
    reference_counts = list(reference.feature_counts)
    if reference.has_classes:
        names.append("classes")
        live_counts.append(total.classes)
        reference_counts.append(reference.class_counts)

    drifting = []
    verdict = ""
    for name, live, expected in zip(names, live_counts, reference_counts, strict=True):
        assessment = assess_drift(live, expected, reference.n_monitored_columns)
        verdict = verdict or assessment["verdict"]
        if assessment["verdict"] == "drifting":
            drifting.append(f"{name} {assessment['psi']:.2f}")
    return ", ".join(drifting) or verdict
