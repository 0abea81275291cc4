"""Quantiles of Student's t, for intervals from few measurements."""

from __future__ import annotations

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
