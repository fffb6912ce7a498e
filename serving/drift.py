"""Reference bins: arithmetic on counts, with no model and no web in it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def quantile_edges(values: Floats, bins: int = 5) -> Floats:
    """Return the edges that cut `values`, of shape (rows,), into at most `bins` bins of about equal mass.

    Few bins on purpose: the noise of a population stability index grows with their number. Ties merge bins, so a
    column of few distinct values gets fewer; the result is strictly increasing, of shape (2,) to (bins + 1,), and a
    constant column gets one edge twice.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def shares(values: Floats, edges: Floats) -> Floats:
    """Return the share of `values`, of shape (rows,), in each bin between `edges`, of shape (bins,), summing to 1.

    A bin holds its left edge and not its right one, but for the last, which holds both.
    """
    counts, _ = np.histogram(values, edges)
    return counts / len(values)
