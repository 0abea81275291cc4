"""Products that read the same input share its factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.grid import along
from optc.passes.quantize.static.sites import Site


@dataclass(frozen=True)
class Group:
    """An input and the products of it that will be quantized."""

    data: ir.Value
    sites: tuple[Site, ...]

    @property
    def is_alone(self) -> bool:
        """Whether nothing else reads the input."""
        nodes = {site.node for site in self.sites}
        return not self.data.is_graph_output() and all(use.node in nodes for use in self.data.uses())

    def matrix(self) -> np.ndarray:
        """All weights side by side, float32 [K, N]."""
        return np.concatenate([_matrix(site) for site in self.sites], axis=1)

    def multiply_rows(self, factors: np.ndarray, graph: Graph) -> None:
        """Multiplies what each weight does with input channel ``k`` by ``factors[k]``."""
        for site in self.sites:
            weight = match.constant(site.weight)
            assert weight is not None
            scaled = (weight * along(factors, 1 - site.channels, 2)).astype(weight.dtype)
            site.node.replace_input_with(1, graph.constant(scaled, f"{site.weight.name}_smoothed"))


def groups_of(sites: Sequence[Site]) -> list[Group]:
    """The inputs of products in graph order."""
    found: dict[ir.Value, list[Site]] = {}
    for site in sites:
        if not site.is_convolution:
            found.setdefault(site.data, []).append(site)
    return [Group(data, tuple(members)) for data, members in found.items()]


def _matrix(site: Site) -> np.ndarray:
    weight = match.constant(site.weight)
    assert weight is not None
    return weight.T if site.channels == 0 else weight
