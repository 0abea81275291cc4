"""Bringing a model to a newer version of the default operator set, where every operator keeps its meaning."""

from __future__ import annotations

from .contrib_pairs import as_standard
from .raising import Raised, raise_to

__all__ = ["Raised", "as_standard", "raise_to"]
