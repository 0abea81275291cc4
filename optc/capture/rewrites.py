"""The exporter's own rewrites, without those that change results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from onnxscript import rewriter
from onnxscript.rewriter import pattern
from onnxscript.rewriter.rules.common import _fuse_relus_clips, _min_max_to_clip, _no_op


@contextmanager
def exact_rewrites() -> Iterator[None]:
    """Within it, exports drop sums with 0 and products with 1 only where the number is exactly that.

    The stock rules compare with a tolerance: ``x / (norm + 1e-8)`` would lose what keeps it from NaN. Those
    that make one Clip of two operators take the wrong bound where ranges do not meet, and give bounds of two
    clamps of one tensor the same name.
    """
    stock, exact = _rules()
    rewriter._DEFAULT_REWRITE_RULES = exact
    try:
        yield
    finally:
        rewriter._DEFAULT_REWRITE_RULES = stock


@cache
def _rules() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The stock rules, which are put back whatever other threads do meanwhile, and ours."""
    stock = rewriter._DEFAULT_REWRITE_RULES
    loose = {id(rule) for rules in (_no_op, _min_max_to_clip, _fuse_relus_clips) for rule in rules.rules}
    rest = [rule for rule in stock if id(rule) not in loose]
    return stock, (*_exact(), _no_op.dropout_zero_rule, _no_op.dropout_inference_rule, *rest)


def _exact() -> list[Any]:
    zero, one = pattern.Constant(0, 0.0, 0.0), pattern.Constant(1, 0.0, 0.0)
    return [
        *_idle(lambda op, x: op.Mul(x, one)).commute(),
        *_idle(lambda op, x: op.Add(x, zero)).commute(),
        _idle(lambda op, x: op.Sub(x, zero)),
        _idle(lambda op, x: op.Div(x, one)),
    ]


def _idle(target: Any) -> Any:
    return pattern.RewriteRule(target, lambda op, x, **_: op.Identity(x))
