"""Drift as arithmetic on counts: reference bins, the population stability index and its bound under no drift."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

Floats = NDArray[np.float64]

# Below so many rows no verdict: the chi-squared distribution is not yet that of the index.
MIN_ROWS = 100
# By custom an index below this is no change worth a look, however sure it is.
MIN_PSI = 0.1
# The chance that something is called drifting where nothing is, all columns together.
SIGNIFICANCE_LEVEL = 0.05
# Above so many rows it is quicker to compare each value with every edge than to search, which guesses wrong on the way.
COMPARE_EDGES_ABOVE_ROWS = 4000


def quantile_edges(values: Floats, bins: int = 5) -> Floats:
    """Return the edges that cut `values`, of shape (rows,), into at most `bins` bins of about equal mass.

    Few bins on purpose: the noise of a population stability index grows with their number. Ties merge bins, so a
    column of few distinct values gets fewer; the result is strictly increasing, of shape (2,) to (bins + 1,), and a
    constant column gets one edge twice.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def bin_shares(values: Floats, edges: Floats) -> Floats:
    """Return the share of `values`, of shape (rows,), in each bin between `edges`, of shape (bins,), summing to 1.

    A bin holds its left edge and not its right one, but for the last, which holds both.
    """
    counts, _ = np.histogram(values, edges)
    return counts / len(values)


class FeatureBins:
    """The bins of each feature, one feature after the other in one array: below the edges, between them, above."""

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        # The last bin holds its right edge: the next number is the first one above.
        self.edges = [[*some[:-1], float(np.nextafter(some[-1], np.inf))] for some in edges]
        self.offsets = np.cumsum([0, *(len(some) + 1 for some in self.edges)]).tolist()
        self.size: int = self.offsets[-1]

    def cells(self, row: Sequence[float], at: int = 0) -> list[int]:
        """Return the cell of each value of one row, where the first of all cells is `at`."""
        return [
            at + start + bisect_right(edges, value)
            for start, edges, value in zip(
                self.offsets, self.edges, row, strict=False
            )  # starts has the end as well
        ]

    def counts(self, rows: Floats) -> NDArray[np.int64]:
        """Return how many values of `rows`, of shape (rows, features), lie in each cell, of shape (size,)."""
        if len(rows) > COMPARE_EDGES_ABOVE_ROWS:
            reached = [
                [len(rows), *(np.count_nonzero(column >= edge) for edge in edges), 0]
                for edges, column in zip(self.edges, rows.T, strict=False)
            ]
            return np.concatenate([-np.diff(np.array(some, np.int64)) for some in reached])
        columns = zip(self.offsets, self.edges, rows.T, strict=False)
        cells = [
            start + np.searchsorted(edges, column, side="right") for start, edges, column in columns
        ]
        return np.bincount(np.concatenate(cells), minlength=self.size)


def smoothed_shares(counts: Floats) -> Floats:
    """Return the shares of a reference's counts, of shape (bins,), with a row more in each, so that none is 0.

    A row is about right for the bins outside, which held none: beyond the largest of M rows lies 1/(M + 1) of all.
    """
    return np.asarray((counts + 1) / (counts.sum() + len(counts)))


def psi(live: Floats, reference: Floats) -> float:
    """Return the population stability index of two arrays of counts, of shape (bins,).

    The sum over the bins of (live - reference) ln(live / reference), in shares (Siddiqi, Credit Risk Scorecards, 2006).
    Each live bin has half a row more, or what is expected there where that is less: few rows leave rare bins empty.
    """
    q = smoothed_shares(reference)
    padded = live + np.minimum(0.5, q * live.sum())
    p = padded / padded.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def chi2_bound(bins: int, columns: int) -> float:
    """Return what the index of one of `columns` columns, times the harmonic size of its samples, exceeds by chance.

    Where nothing drifts, the index over (1/N + 1/M) is about chi-squared with bins - 1 degrees of freedom (Yurdakul and
    Naranjo, Statistical properties of the population stability index, 2020). The level is shared among the columns;
    `bench/drift.py` simulates what comes of it.
    """
    return float(chdtri(bins - 1, SIGNIFICANCE_LEVEL / columns))


def assess_drift(live: Floats, reference: Floats, columns: int) -> dict[str, Any]:
    """Return the index of one of `columns` columns, its critical value under no drift, and the verdict.

    `live` and `reference` are counts, of shape (bins,). Drifting is what is more than chance and more than minor.
    """
    n = live.sum()
    if n < MIN_ROWS:
        return {"verdict": "too few rows", "psi": None, "critical": None}
    index = psi(live, reference)
    critical = chi2_bound(len(live), columns) * float(1 / n + 1 / reference.sum())
    return {
        "verdict": "drifting" if index > max(critical, MIN_PSI) else "quiet",
        "psi": index,
        "critical": critical,
    }
