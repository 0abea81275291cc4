"""How alike the attention probabilities of layers are, on calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.analysis.padding import mask_inputs, real_tokens
from optc.passbase import Context
from optc.tap import tap

from ._sites import Site


def similarities(model: ir.Model, stack: Sequence[Site], ctx: Context) -> np.ndarray:
    """Mean cosine of the probability matrices of all pairs, [layers, layers, heads, heads].

    Entry [i, j, g, h] compares head g of layer i with head h of layer j. Rows of padding do not count.
    Probabilities whose heads are no axis of their own are compared as they lie, as one head. Memory does
    not grow with the number of samples.
    """
    names = [str(site.probabilities.name) for site in stack]
    masks = mask_inputs(stack[0].block.nodes, {stack[0].block.entry.name})
    samples = ctx.calibration or ()
    taps = tap(model, names, samples, threads=ctx.threads)
    seen = zip(ctx.progress(samples, "comparing attention"), taps, strict=True)
    total: Any = sum(
        _cosines([_units(values[name], masks, feeds) for name in names]) for feeds, values in seen
    )
    return np.asarray(total / len(samples))


def _units(probabilities: np.ndarray, masks: Sequence[str], feeds: Mapping[str, Any]) -> np.ndarray:
    """[batch, heads, queries * keys], of length 1 each; queries that are padding are 0."""
    found = np.asarray(probabilities, dtype=np.float32)
    queries, keys = found.shape[-2:]
    found = found if found.ndim == 4 else found.reshape(-1, 1, queries, keys)
    real = real_tokens(masks, feeds, (len(found), queries))
    found = found if real is None else found * real[:, None, :, None]
    flat = found.reshape(*found.shape[:2], queries * keys)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12))


def _cosines(layers: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(layers, axis=1)  # [batch, layers, heads, queries * keys]
    batch, count, heads, size = stacked.shape
    rows = stacked.reshape(batch, count * heads, size)
    products = (rows @ rows.transpose(0, 2, 1)).mean(axis=0)
    return np.asarray(products.reshape(count, heads, count, heads).transpose(0, 2, 1, 3))
