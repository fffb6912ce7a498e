"""What the verdict of GET /drift is worth: how often it is false, and how soon it is true."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris

sys.path.insert(0, str(Path(__file__).parent.parent))
from serving.monitoring.drift import FeatureBins, assess_drift, quantile_edges

rng = np.random.default_rng(0)


def drifting(rows, training, columns):
    """Return whether a service with a model trained on `training` would say so of these rows."""
    bins = FeatureBins([quantile_edges(column) for column in training.T])
    live, reference = (np.split(bins.counts(some), bins.starts[1:-1]) for some in (rows, training))
    return "drifting" in {
        assess_drift(a, b, columns)["verdict"] for a, b in zip(live, reference, strict=True)
    }


print("No drift, four independent features, 1,000 windows: the share that is called drifting")
for training_rows in (150, 1000, 10_000):
    shares = []
    for n in (100, 1000, 10_000):
        false = sum(
            drifting(rng.normal(size=(n, 4)), rng.normal(size=(training_rows, 4)), 4)
            for _ in range(1000)
        )
        shares.append(f"{false / 1000:.3f} of {n} rows")
    print(f"  {training_rows} training rows: {', '.join(shares)}")

iris = load_iris().data
print(
    "Iris, drawn anew from its own rows, 1,000 windows of 1000 rows: the share that is called drifting"
)
print(
    f"  {sum(drifting(iris[rng.integers(150, size=1000)], iris, 5) for _ in range(1000)) / 1000:.3f}"
)

print(
    "One feature of Iris moved by one standard deviation: rows until it is called drifting, of 200 streams"
)
for moved in range(4):
    needed = []
    for _ in range(200):
        stream = iris[rng.integers(150, size=2000)]
        stream[:, moved] += iris[:, moved].std()
        needed.append(next(n for n in range(10, 2001, 10) if drifting(stream[:n], iris, 5)))
    print(
        f"  feature {moved}: median {np.median(needed):.0f}, 95 of 100 within {np.percentile(needed, 95):.0f}"
    )
