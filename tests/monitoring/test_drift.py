"""Bins on small numbers that a person can check, and the laws that hold for all."""

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


def test_quantiles_cut_into_bins_of_equal_mass():
    values = np.arange(10.0)
    edges = quantile_edges(values, bins=5)
    np.testing.assert_allclose(edges, [0, 1.8, 3.6, 5.4, 7.2, 9])
    np.testing.assert_allclose(bin_shares(values, edges), [0.2] * 5)


def test_ties_merge_bins():
    np.testing.assert_allclose(
        quantile_edges(np.array([0.0, 0, 0, 0, 0, 1, 2, 3, 4, 5])), [0, 1.4, 3.2, 5]
    )
    np.testing.assert_array_equal(quantile_edges(np.array([7.0, 7.0])), [7, 7])


@given(columns)
def test_every_training_row_is_in_one_bin(values):
    edges = quantile_edges(values)
    found = bin_shares(values, edges)
    assert 2 <= len(edges) <= 6 and len(found) == len(edges) - 1
    assert (edges[0], edges[-1]) == (values.min(), values.max())
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(), 1)


def test_each_value_has_a_cell():
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
def test_many_rows_are_counted_as_one_by_one(values, rows):
    bins = FeatureBins([quantile_edges(values), [0, 1, 2.5]])
    one_by_one = np.bincount(
        [cell for row in rows for cell in bins.cell_indices(row)], minlength=bins.size
    )
    np.testing.assert_array_equal(bins.counts(np.array(rows)), one_by_one)


def test_very_many_rows_are_counted_as_in_pieces():
    bins = FeatureBins([[0, 1, 2.5], [7, 7]])
    rows = np.random.default_rng(0).choice(
        [-1, 0, 0.5, 1, 2.5, 3, 7, 8], size=(3 * COMPARE_EDGES_ABOVE_ROWS, 2)
    )
    pieces = sum(bins.counts(piece) for piece in np.split(rows, 6))
    np.testing.assert_array_equal(bins.counts(rows), pieces)
    np.testing.assert_array_equal(bins.counts(np.asfortranarray(rows)), pieces)


@given(columns)
def test_training_rows_fall_between_the_edges_as_the_card_says(values):
    edges = quantile_edges(values)
    counts = FeatureBins([edges]).counts(values[:, np.newaxis])
    np.testing.assert_allclose(counts, np.array([0, *bin_shares(values, edges), 0]) * len(values))


def test_the_index_is_the_formula():
    live, reference = np.array([20, 30, 50]), np.array([100, 60, 40])
    p, q = [20.5 / 101.5, 30.5 / 101.5, 50.5 / 101.5], [101 / 203, 61 / 203, 41 / 203]
    expected = sum((a - b) * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))
    assert psi(live, reference) == pytest.approx(expected)
    assert psi(reference, reference) == pytest.approx(0, abs=1e-3)
    # Of 3 rows a thousandth is expected in the last bin, and no half row is put there.
    rare = np.array([499, 499, 0])
    q = np.array([500, 500, 1]) / 1001
    p = np.array([1 + 0.5, 2 + 0.5, 3 / 1001]) / (4 + 3 / 1001)
    assert psi(np.array([1, 2, 0]), rare) == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert np.isfinite(psi(np.array([0, 0, 9]), np.array([9, 0, 0])))


def test_the_bound_is_chi_squareds_shared_among_columns():
    for bins, columns in ((7, 1), (7, 5), (3, 5)):
        assert chi2_bound(bins, columns) == pytest.approx(
            chi2.ppf(1 - SIGNIFICANCE_LEVEL / columns, bins - 1)
        )


def test_a_verdict_needs_rows_and_more_than_chance_and_more_than_a_trifle():
    even = np.array([500.0, 500.0])
    assert assess_drift(np.array([MIN_ROWS - 1, 0]), even, 1) == {
        "verdict": "too few rows",
        "psi": None,
        "critical": None,
    }
    assert assess_drift(np.array([MIN_ROWS, 0]), even, 1)["verdict"] == "drifting"
    chance = assess_drift(np.array([70, 30]), np.array([20.0, 20.0]), 5)
    assert MIN_PSI < chance["psi"] < chance["critical"] and chance["verdict"] == "quiet"
    # A million rows make any difference sure, and none of them worth a look.
    trifle = assess_drift(even * 1000 + [9000, -9000], even * 1000, 1)
    assert trifle["critical"] < trifle["psi"] < MIN_PSI and trifle["verdict"] == "quiet"


@pytest.mark.parametrize(
    ("reference_rows", "rows"), [(150, 100), (150, 1000), (1000, 10_000), (10_000, 100)]
)
def test_chance_alone_exceeds_the_critical_value_less_than_one_time_in_twenty(reference_rows, rows):
    # The edges are drawn from the reference itself, as in training; what is beyond them has bins of its own.
    rng = np.random.default_rng(0)
    above = 0
    for _ in range(5000):
        reference, live = rng.normal(size=reference_rows), rng.normal(size=rows)
        bins = FeatureBins([quantile_edges(reference)])
        of_reference, of_live = (bins.counts(values[:, np.newaxis]) for values in (reference, live))
        found = assess_drift(of_live, of_reference, 1)
        above += found["psi"] > found["critical"]
    assert 0.01 < above / 5000 < 0.05
