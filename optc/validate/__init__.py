"""Checks every rewrite where it was applied, on the values that the graph really has there."""

from __future__ import annotations

from optc.validate.validator import Validator

__all__ = ["Validator"]
