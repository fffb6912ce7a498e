"""Bins on small numbers that a person can check, and the laws that hold for all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.drift import quantile_edges, shares

columns = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200).map(np.array)


def test_quantiles_cut_into_bins_of_equal_mass():
    values = np.arange(10.0)
    edges = quantile_edges(values, bins=5)
    np.testing.assert_allclose(edges, [0, 1.8, 3.6, 5.4, 7.2, 9])
    np.testing.assert_allclose(shares(values, edges), [0.2] * 5)


def test_ties_merge_bins():
    np.testing.assert_allclose(quantile_edges(np.array([0.0, 0, 0, 0, 0, 1, 2, 3, 4, 5])), [0, 1.4, 3.2, 5])
    np.testing.assert_array_equal(quantile_edges(np.array([7.0, 7.0])), [7, 7])


@given(columns)
def test_every_training_row_is_in_one_bin(values):
    edges = quantile_edges(values)
    found = shares(values, edges)
    assert 2 <= len(edges) <= 6 and len(found) == len(edges) - 1
    assert (edges[0], edges[-1]) == (values.min(), values.max())
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(), 1)
