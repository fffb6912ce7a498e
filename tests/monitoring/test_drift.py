"""Drift: bins and indices of small examples, and properties of all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from serving.monitoring.drift import (
    COMPARE_EDGES_ABOVE_ROWS,
    MIN_PSI,
    MIN_ROWS,
    SIGNIFICANCE_LEVEL,
    FeatureBins,
    assess_drift,
    bin_shares,
    chi2_bound,
    psi,
    quantile_edges,
)

columns = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200).map(np.array)


def test_quantile_edges_divide_equally():
    """Quantile edges divide the values into bins of equal mass."""
    values = np.arange(10.0)
    edges = quantile_edges(values, bins=5)
    np.testing.assert_allclose(edges, [0, 1.8, 3.6, 5.4, 7.2, 9])
    np.testing.assert_allclose(bin_shares(values, edges), [0.2] * 5)


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([7.0, 7], [7, 7]),
        ([0.0, 1], [0, 0.5, 1]),
        ([0.0] + [1.0] * 99, [0, 0.5, 1]),
        ([0.0] * 99 + [1.0], [0, 0.5, 1]),
        ([1.0, 2, 3, 3, 5], [1, 1.5, 2.5, 4, 5]),
        ([0.0, 0, 0, 0, 0, 1, 2, 3, 4, 5], [0, 0.5, 1.4, 3.2, 5]),
        ([1.0, 2, 3, 4, 5, 6, 6, 6, 6, 6], [1, 2.8, 4.6, 5.5, 6]),
    ],
)
def test_frequent_values_have_own_bin(values, edges):
    """Each of few distinct values, and each value as frequent as a bin, is told from others."""
    np.testing.assert_allclose(quantile_edges(np.array(values)), edges)


@given(columns)
def test_training_rows_fill_bins(values):
    """Every training row is in one bin: the shares sum to 1."""
    edges = quantile_edges(values)
    shares = bin_shares(values, edges)
    assert 2 <= len(edges) <= 6
    assert len(shares) == len(edges) - 1
    assert (edges[0], edges[-1]) == (values.min(), values.max())
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(), 1)


def test_each_value_has_bin():
    """Each value is in a bin: below, between or above the edges."""
    bins = FeatureBins([[0, 1, 2], [7, 7]])
    assert bins.size == 4 + 3
    for row, cells in (
        ([-0.1, 6], [0, 4]),
        ([0, 7], [1, 5]),
        ([1, 7.1], [2, 6]),
        ([2, 7], [2, 5]),  # the last bin holds its right edge
        ([np.nextafter(2, 3), 7], [3, 5]),
    ):
        assert bins.cell_indices(row) == cells
    np.testing.assert_array_equal(
        bins.counts(np.array([[0.0, 7.0], [3.0, 7.0]])), [0, 1, 0, 1, 0, 2, 0]
    )


@given(columns, st.lists(st.tuples(*[st.floats(-3e38, 3e38)] * 2), min_size=1, max_size=50))
def test_counts_match_single_rows(values, rows):
    """Many rows are counted like the same rows one by one."""
    bins = FeatureBins([quantile_edges(values), [0, 1, 2.5]])
    one_by_one = np.bincount(
        [cell for row in rows for cell in bins.cell_indices(row)], minlength=bins.size
    )
    np.testing.assert_array_equal(bins.counts(np.array(rows)), one_by_one)


def test_counts_match_parts():
    """Rows counted by comparison are counted like smaller parts of them."""
    bins = FeatureBins([[0, 1, 2.5], [7, 7]])
    rows = np.random.default_rng(0).choice(
        [-1, 0, 0.5, 1, 2.5, 3, 7, 8], size=(3 * COMPARE_EDGES_ABOVE_ROWS, 2)
    )
    pieces = sum(bins.counts(piece) for piece in np.split(rows, 6))
    np.testing.assert_array_equal(bins.counts(rows), pieces)
    np.testing.assert_array_equal(bins.counts(np.asfortranarray(rows)), pieces)


@given(columns)
def test_counts_match_card_shares(values):
    """Training rows are counted as the shares of the model card say."""
    edges = quantile_edges(values)
    counts = FeatureBins([edges]).counts(values[:, np.newaxis])
    np.testing.assert_allclose(counts, np.array([0, *bin_shares(values, edges), 0]) * len(values))


def test_psi_follows_formula():
    """The index follows its formula, also with empty and rare bins."""
    live = np.array([20, 30, 50])
    reference = np.array([100, 60, 40])
    p = [20.5 / 101.5, 30.5 / 101.5, 50.5 / 101.5]
    q = [101 / 203, 61 / 203, 41 / 203]
    expected = sum((a - b) * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))
    assert psi(live, reference) == pytest.approx(expected)
    assert psi(reference, reference) == pytest.approx(0, abs=1e-3)
    # The last bin expects a thousandth of 3 rows, which is less than half a row.
    rare = np.array([499, 499, 0])
    q = np.array([500, 500, 1]) / 1001
    p = np.array([1 + 0.5, 2 + 0.5, 3 / 1001]) / (4 + 3 / 1001)
    assert psi(np.array([1, 2, 0]), rare) == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert np.isfinite(psi(np.array([0, 0, 9]), np.array([9, 0, 0])))


def test_bound_is_chi_squared_quantile():
    """The bound is a quantile of chi-squared, at the level divided by the columns."""
    for bins, columns in ((7, 1), (7, 5), (3, 5)):
        assert chi2_bound(bins, columns) == pytest.approx(
            chi2.ppf(1 - SIGNIFICANCE_LEVEL / columns, bins - 1)
        )


def test_verdict_needs_significant_change():
    """Drifting needs enough rows, an index above chance, and one above the minimum."""
    even = np.array([500.0, 500.0])
    assert assess_drift(np.array([MIN_ROWS - 1, 0]), even, 1) == {
        "verdict": "too few rows",
        "psi": None,
        "critical": None,
    }
    assert assess_drift(np.array([MIN_ROWS, 0]), even, 1)["verdict"] == "drifting"
    chance = assess_drift(np.array([70, 30]), np.array([20.0, 20.0]), 5)
    assert MIN_PSI < chance["psi"] < chance["critical"] and chance["verdict"] == "quiet"
    # A million rows make any difference significant, and a small one is still not relevant.
    minor = assess_drift(even * 1000 + [9000, -9000], even * 1000, 1)
    assert minor["critical"] < minor["psi"] < MIN_PSI
    assert minor["verdict"] == "quiet"


@pytest.mark.parametrize(
    ("reference_rows", "rows"), [(150, 100), (150, 1000), (1000, 10_000), (10_000, 100)]
)
def test_chance_rarely_exceeds_bound(reference_rows, rows):
    """Without drift the index exceeds its critical value less than one time in twenty."""
    # As in training, the edges are quantiles of the reference itself.
    rng = np.random.default_rng(0)
    exceeded = 0
    for _ in range(5000):
        reference = rng.normal(size=(reference_rows, 1))
        live = rng.normal(size=(rows, 1))
        bins = FeatureBins([quantile_edges(reference[:, 0])])
        result = assess_drift(bins.counts(live), bins.counts(reference), 1)
        exceeded += result["psi"] > result["critical"]
    assert 0.01 < exceeded / 5000 < 0.05


@pytest.mark.parametrize("rows", [100, 1000])
@pytest.mark.parametrize("weights", [np.ones(101), 1 / np.arange(1, 102)])
def test_many_classes_rarely_exceed_bound(weights, rows):
    """Without drift a hundred classes exceed the critical value no more often than few classes."""
    rng = np.random.default_rng(0)
    shares = weights / weights.sum()
    exceeded = 0
    for _ in range(1000):
        reference = rng.multinomial(5000, shares)
        result = assess_drift(rng.multinomial(rows, shares), reference, 1)
        exceeded += result["psi"] > result["critical"]
    assert exceeded / 1000 < 0.05
