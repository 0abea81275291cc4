"""The optimized graph as a torch module that can be trained, exported and compiled again."""

from __future__ import annotations

from .module import OptimizedModule, to_module

__all__ = ["OptimizedModule", "to_module"]
