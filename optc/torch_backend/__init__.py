"""The backend of ``torch.compile(model, backend="optc")``."""

from __future__ import annotations

from .because import FallbackWarning
from .counts import Stats, reset_stats, stats
from .entry import optc

__all__ = ["FallbackWarning", "Stats", "optc", "reset_stats", "stats"]
