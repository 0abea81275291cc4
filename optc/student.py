"""Intervals from few measurements: quantiles of Student's t, and how large a deviation may be."""

from __future__ import annotations

import math

# 0.975 quantiles for 1, 2, ... degrees of freedom; the last one for more.
_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145),
    *(2.131, 2.12, 2.11, 2.101, 2.093, 2.086),
)

NORMAL = 1.96  # what they come down to


def quantile(freedom: int) -> float:
    """The 0.975 quantile: the half width of a 95% interval, in standard errors.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    return _QUANTILES[min(freedom, len(_QUANTILES)) - 1]


def largest_deviation(freedom: int) -> float:
    """The upper end of a one-sided 95% interval for a standard deviation, over the one that was found.

    By Wilson and Hilferty's cube root of the chi-squared distribution, which is of no use for one degree.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    if freedom == 1:
        return 15.95
    part = 2 / (9 * freedom)
    root: float = 1 - part - 1.645 * math.sqrt(part)
    return 1 / (root * math.sqrt(root))
