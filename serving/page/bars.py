"""The geometry of bar charts, in the units of an SVG of CHART_WIDTH by CHART_HEIGHT."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

CHART_WIDTH = 100
CHART_HEIGHT = 24


@dataclass(frozen=True)
class Bar:
    """One bar, which stands on the lower edge of its chart."""

    x: float
    y: float
    width: float
    height: float


def histogram(edges: Sequence[float], shares: Sequence[float]) -> list[Bar]:
    """Return a bar for each bin; its area is the share of the rows between two edges."""
    start = edges[0]
    extent = edges[-1] - start
    if extent <= 0:  # a constant
        return [Bar(0, 0, CHART_WIDTH, CHART_HEIGHT)]

    densities = []
    for (left, right), share in zip(pairwise(edges), shares, strict=True):
        densities.append(share / (right - left))
    highest = max(densities) or 1

    bars = []
    for (left, right), density in zip(pairwise(edges), densities, strict=True):
        height = CHART_HEIGHT * density / highest
        x = CHART_WIDTH * (left - start) / extent
        width = CHART_WIDTH * (right - left) / extent
        bars.append(Bar(round(x, 3), round(CHART_HEIGHT - height, 3), round(width, 3), height))
    return bars
