"""Layers of one form share one function, and the mask that was made for them."""

from __future__ import annotations

import re

import onnx_ir as ir
from attention_text import (
    BASE,
    CONSTANTS,
    FINISH,
    LENGTHS,
    MASK,
    PRODUCT,
    assert_same,
    fuse,
    model,
    ops,
    random_feeds,
)

from optc import rewrite
from optc.passbase import Context
from optc.passes.fuse import Fuse
from optc.targets.cpu import TARGET


def _two_layers() -> ir.Model:
    """Attention of other scales, masked alike by a fill that asks for an additive mask."""
    layers = ""
    for number, scale in ((1, "scale"), (2, "two")):
        middle = f"scaled = Mul (product, {scale}) scores = Where (mask, scaled, lowest)"
        layers += re.sub(
            r"\b(kt|product|scaled|scores|weights|y)\b", rf"\g<1>{number}", PRODUCT + middle + FINISH
        )
    outputs = "float[b, 4, s, 6] y1, float[b, 4, s, 6] y2"
    return model(layers, inputs=BASE + MASK, constants=CONSTANTS, outputs=outputs)


def test_equal_layers_share_one_function() -> None:
    """Two attentions of one form call one function, whatever their scales."""
    graph = _two_layers()
    assert fuse(graph).matched["attention"] == 2
    assert [key[1] for key in graph.functions if key[0] == rewrite.DOMAIN] == ["Attention"]


def test_layers_share_the_mask_made_for_them() -> None:
    """What the pass makes of one mask is there once."""
    before, after = _two_layers(), _two_layers()
    Fuse(only="attention").run(after, Context(target=TARGET))
    assert ops(after) == ["Where", "Attention", "Attention"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])
