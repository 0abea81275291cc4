"""Raising a model to a newer version of the default operator set, where every operator keeps its meaning."""

from __future__ import annotations

from .raising import Raised, raise_to

__all__ = ["Raised", "raise_to"]
