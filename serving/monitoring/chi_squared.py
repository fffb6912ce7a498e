"""The chi-squared distribution, for what is served without scipy."""

from functools import cache
from math import erfc, exp, fsum, lgamma, log, sqrt


def survival(x: float, degrees: int) -> float:
    """Return the probability that chi-squared with some degrees of freedom is above `x`.

    `x` is above 0. For integers it is a finite sum (Abramowitz and Stegun, 26.4.4 and 26.4.5).
    """
    half = x / 2
    offset = (degrees % 2) / 2
    exponents = [index + offset for index in range(degrees // 2)]
    terms = [exp(exponent * log(half) - half - lgamma(exponent + 1)) for exponent in exponents]
    if degrees % 2:
        terms.append(erfc(sqrt(half)))
    return fsum(terms)


@cache
def critical_value(degrees: int, probability: float) -> float:
    """Return what chi-squared with some degrees of freedom exceeds with a probability below 1.

    It is 0 without a degree of freedom.
    """
    if degrees == 0:
        return 0.0
    low = 0.0
    high = 1.0
    while survival(high, degrees) > probability:
        low = high
        high *= 2

    # The interval is halved until it has no number inside.
    while low < (middle := (low + high) / 2) < high:
        if survival(middle, degrees) > probability:
            low = middle
        else:
            high = middle
    return high
