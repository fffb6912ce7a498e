"""Measure the verdict of GET /drift: how often it is false, and after how many rows it is true."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris

sys.path.insert(0, str(Path(__file__).parent.parent))
from serving.monitoring.drift import FeatureBins, assess_drift, quantile_edges

N_WINDOWS = 1000
N_STREAMS = 200
N_FEATURES = 4
N_IRIS_COLUMNS = 5  # four features and the class mix
MAX_STREAM_ROWS = 2000
STREAM_STEP = 10

rng = np.random.default_rng(0)


def is_drifting(rows, training, n_columns):
    """Return whether a service with a model trained on `training` reports drift for `rows`."""
    bins = FeatureBins([quantile_edges(column) for column in training.T])
    live_counts = bins.split(bins.counts(rows))
    reference_counts = bins.split(bins.counts(training))

    for live, reference in zip(live_counts, reference_counts, strict=True):
        if assess_drift(live, reference, n_columns)["verdict"] == "drifting":
            return True
    return False


def false_alarm_share(n_rows, n_training_rows):
    """Return the share of windows of independent normal features that are called drifting."""
    false_alarms = 0
    for _ in range(N_WINDOWS):
        rows = rng.normal(size=(n_rows, N_FEATURES))
        training = rng.normal(size=(n_training_rows, N_FEATURES))
        false_alarms += is_drifting(rows, training, N_FEATURES)
    return false_alarms / N_WINDOWS


def rows_until_drifting(iris, feature):
    """Return after how many rows a shift by one standard deviation is reported."""
    stream = iris[rng.integers(len(iris), size=MAX_STREAM_ROWS)]
    stream[:, feature] += iris[:, feature].std()
    for n_rows in range(STREAM_STEP, MAX_STREAM_ROWS + 1, STREAM_STEP):
        if is_drifting(stream[:n_rows], iris, N_IRIS_COLUMNS):
            return n_rows
    raise AssertionError("the shift was not reported")


def main():
    print(f"No drift, four independent features, {N_WINDOWS} windows: share of false alarms")
    for n_training_rows in (150, 1000, 10_000):
        shares = []
        for n_rows in (100, 1000, 10_000):
            share = false_alarm_share(n_rows, n_training_rows)
            shares.append(f"{share:.3f} with {n_rows} rows")
        print(f"  {n_training_rows} training rows: {', '.join(shares)}")

    iris = load_iris().data
    print(
        f"Rows of Iris drawn with replacement, {N_WINDOWS} windows of 1000: share of false alarms"
    )
    false_alarms = 0
    for _ in range(N_WINDOWS):
        rows = iris[rng.integers(len(iris), size=1000)]
        false_alarms += is_drifting(rows, iris, N_IRIS_COLUMNS)
    print(f"  {false_alarms / N_WINDOWS:.3f}")

    print(
        f"One feature of Iris shifted by one standard deviation, {N_STREAMS} streams: rows needed"
    )
    for feature in range(N_FEATURES):
        needed = [rows_until_drifting(iris, feature) for _ in range(N_STREAMS)]
        median = np.median(needed)
        percentile = np.percentile(needed, 95)
        print(f"  feature {feature}: median {median:.0f}, 95th percentile {percentile:.0f}")


if __name__ == "__main__":
    main()
