"""The critical values of chi-squared, beside scipy's."""

import pytest
from scipy.stats import chi2

from serving.monitoring.chi_squared import critical_value, survival


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 10, 31, 100, 1001, 5000])
def test_critical_value_is_scipys(degrees):
    """The values are those of the inverse survival function, for few and for many columns."""
    for probability in (0.9, 0.05, 0.05 / 30, 1e-9):
        expected = chi2.isf(probability, degrees)
        assert critical_value(degrees, probability) == pytest.approx(expected, rel=1e-12)
        assert survival(expected, degrees) == pytest.approx(probability, rel=1e-10)


def test_no_degree_of_freedom_is_never_exceeded():
    """One bin holds every row, with an index of 0."""
    assert critical_value(0, 0.05) == 0.0
