"""Which tokens of a sample are padding: what they do must not count.

No name is consulted. A padding mask is an input of shape [batch, tokens] that holds zeros and ones and enters
the blocks beside the stream of hidden states (through the attention scores).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def mask_inputs(nodes: Iterable[ir.Node], entries: Container[str | None]) -> list[str]:
    """Names of the graph inputs of rank 2 that reach ``nodes`` other than through the values ``entries``."""
    seen: set[ir.Value] = set()
    stack = [value for node in nodes for value in node.inputs if value is not None]
    found = []
    while stack:
        value = stack.pop()
        if value in seen or value.name in entries:
            continue
        seen.add(value)
        node = value.producer()
        if node is not None:
            stack += [operand for operand in node.inputs if operand is not None]
        elif value.is_graph_input() and value.shape is not None and len(value.shape) == 2:
            found.append(str(value.name))
    return sorted(found)


def real_tokens(names: Sequence[str], feeds: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """Which tokens are none of padding, by batch and token; None: all of them, or none is told.

    Args:
        names: of the mask inputs.
        shape: (batch, tokens).
    """
    for name in names:
        mask = np.asarray(feeds[name])
        if mask.shape != shape or not np.isin(mask, (0, 1)).all():
            continue
        if mask.any() and not mask.all():
            return mask.astype(bool)
    return None
