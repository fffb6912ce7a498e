"""What one call of the model costs, straight from the coefficients, against scikit-learn's own predict."""

import sys
import timeit
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from serving.model import load

model = load(Path(__file__).parent.parent / "model.pkl")
for n in (1, 100, 10_000):
    rows = np.tile([[5.1, 3.5, 1.4, 0.2]], (n, 1))
    rounds = 20_000 // (n // 10 + 10)
    pairs = [
        [timeit.timeit(lambda f=f, rows=rows: f(rows), number=rounds) for f in (model.predict, model.estimator.predict)]
        for _ in range(7)
    ]
    ours, theirs = np.median(pairs, axis=0)
    print(f"{n} rows: {theirs / ours:.1f} times as fast as estimator.predict")
