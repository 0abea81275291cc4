"""Calibration: what values inside a model look like on sample data, and the ranges chosen from it."""

from __future__ import annotations

from .histogram import Histogram
from .observe import observe
from .probes import Distribution, Extremes, Mean, Probe
from .ranges import RANGES
from .reach import Reach

__all__ = ["RANGES", "Distribution", "Extremes", "Histogram", "Mean", "Probe", "Reach", "observe"]
