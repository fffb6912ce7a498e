"""Drift: bins of the reference, the population stability index, and its bound without drift."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.arrays import Floats
from serving.monitoring.chi_squared import critical_value

# With fewer rows there is no verdict: the index is not yet distributed as chi-squared.
MIN_ROWS = 100
# The customary threshold: a smaller index is no relevant change, however significant it is.
MIN_PSI = 0.1
# The probability of a false alarm, for all columns together.
SIGNIFICANCE_LEVEL = 0.05
# With more rows, comparing each value with every edge is faster than a binary search, whose
# branches the processor cannot predict.
COMPARE_EDGES_ABOVE_ROWS = 4000


def quantile_edges(values: Floats, bins: int = 5) -> Floats:
    """Return edges that divide `values`, of shape (rows,), into at most `bins` bins of equal mass.

    There are few bins because the noise of a population stability index grows with their number.
    A value that fills a bin alone, such as one of two values or the zeros of a column that is
    mostly zero, gets a bin of its own. The result is strictly increasing, of shape (2,) or more; a
    constant column gets one edge twice.
    """
    distinct = np.unique(values)
    if len(distinct) == 1:
        return np.repeat(distinct, 2)
    midpoints = (distinct[:-1] + distinct[1:]) / 2
    if len(distinct) <= bins:
        return np.unique(np.concatenate([distinct[:1], midpoints, distinct[-1:]]))

    quantiles, repetitions = np.unique(
        np.quantile(values, np.linspace(0, 1, bins + 1)), return_counts=True
    )
    frequent = np.searchsorted(distinct, quantiles[repetitions > 1])
    above = midpoints[frequent[frequent < len(midpoints)]]
    below = midpoints[frequent[frequent == len(midpoints)] - 1]
    return np.unique(np.concatenate([quantiles, above, below]))


def bin_shares(values: Floats, edges: Floats) -> Floats:
    """Return the share of `values`, of shape (rows,), in each bin between `edges`.

    The shares have the shape (bins,) and sum to 1. A bin holds its left edge and not its right
    edge, except the last bin, which holds both.
    """
    counts, _ = np.histogram(values, edges)
    return counts / len(values)


class FeatureBins:
    """The bins of each feature, one feature after the other in one array.

    The bins of a feature are: below its first edge, between its edges, above its last edge.
    """

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        self.edges: list[list[float]] = []
        self.offsets = [0]  # of the first bin of each feature, and the end of the last one
        for feature_edges in edges:
            # The last bin holds its right edge, so the next number is the first one above it.
            above = float(np.nextafter(feature_edges[-1], np.inf))
            self.edges.append([*feature_edges[:-1], above])
            self.offsets.append(self.offsets[-1] + len(feature_edges) + 1)
        self.size = self.offsets[-1]

    def cell_indices(self, row: Sequence[float], first: int = 0) -> list[int]:
        """Return the bin of each value of one row; the first of all bins has the index `first`."""
        return [
            first + offset + bisect_right(edges, value)
            for offset, edges, value in zip(self.offsets, self.edges, row, strict=False)
        ]

    def counts(self, rows: Floats) -> NDArray[np.int64]:
        """Return the number of values of `rows`, of shape (rows, features), in each bin.

        The result has the shape (size,).
        """
        if len(rows) > COMPARE_EDGES_ABOVE_ROWS:
            return self._counts_by_comparison(rows)

        indices = []
        for offset, edges, column in zip(self.offsets, self.edges, rows.T, strict=False):
            indices.append(offset + np.searchsorted(edges, column, side="right"))
        return np.bincount(np.concatenate(indices), minlength=self.size)

    def _counts_by_comparison(self, rows: Floats) -> NDArray[np.int64]:
        counts = []
        for edges, column in zip(self.edges, rows.T, strict=False):
            rows_at_or_above = [len(rows)]
            for edge in edges:
                rows_at_or_above.append(int(np.count_nonzero(column >= edge)))
            rows_at_or_above.append(0)
            counts.append(-np.diff(np.array(rows_at_or_above, np.int64)))
        return np.concatenate(counts)

    def split(self, counts: Floats) -> list[Floats]:
        """Return the part of `counts`, of shape (size,), that belongs to each feature."""
        return [counts[start:end] for start, end in pairwise(self.offsets)]


def smoothed_shares(counts: Floats) -> Floats:
    """Return the shares of a reference's counts, of shape (bins,), with add-one smoothing.

    No share is 0. One row is right for the outer bins, which are empty in training: the largest of
    M rows is expected to have 1/(M + 1) of the distribution above it.
    """
    return np.asarray((counts + 1) / (counts.sum() + len(counts)))


def psi(live: Floats, reference: Floats) -> float:
    """Return the population stability index of two arrays of counts, of shape (bins,).

    It is the sum over the bins of (live - reference) ln(live / reference), in shares (Siddiqi,
    Credit Risk Scorecards, 2006). Each live bin gets half a row more, or its expected count if that
    is less, because few rows leave rare bins empty.
    """
    reference_shares = smoothed_shares(reference)
    padded = live + np.minimum(0.5, reference_shares * live.sum())
    live_shares = padded / padded.sum()
    log_ratios = np.log(live_shares / reference_shares)
    return float(np.sum((live_shares - reference_shares) * log_ratios))


def chi2_bound(bins: int, columns: int) -> float:
    """Return the bound that PSI / (1/N + 1/M) exceeds by chance in one of `columns` columns.

    N and M are the numbers of live and of reference rows. Without drift the ratio is about
    chi-squared with bins - 1 degrees of freedom (Yurdakul and Naranjo, Statistical properties of
    the population stability index, 2020). The significance level is divided by the columns;
    `bench/drift.py` simulates the resulting false alarms.
    """
    return critical_value(bins - 1, SIGNIFICANCE_LEVEL / columns)


def assess_drift(live: Floats, reference: Floats, columns: int) -> dict[str, Any]:
    """Return the index of one of `columns` columns, its critical value, and the verdict.

    `live` and `reference` are counts, of shape (bins,). The critical value is the
    bound of an index without drift. A column is drifting if its index is above that bound and above
    MIN_PSI.
    """
    n_rows = live.sum()
    if n_rows < MIN_ROWS:
        return {"verdict": "too few rows", "psi": None, "critical": None}
    index = psi(live, reference)
    critical = chi2_bound(len(live), columns) * float(1 / n_rows + 1 / reference.sum())
    verdict = "quiet"
    if index > max(critical, MIN_PSI):
        verdict = "drifting"
    return {"verdict": verdict, "psi": index, "critical": critical}
