"""Which values become int8: the inputs of the sites, and what lies between sites without leaving int8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from optc import match

from .sites import Site, is_quantized

# What only moves or selects elements: input and output are on the same grid.
MOVING = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "Identity", "Slice", "Split"}
    | {"DepthToSpace", "SpaceToDepth"}
)
# What has an int8 kernel with a grid for each of its inputs and outputs.
COMPUTING = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"})
# What goes into the grid of the value that it limits.
LIMITING = frozenset({"Relu", "Clip"})


@dataclass
class Region:
    """The part of a graph that runs in int8.

    Attributes:
        sites: the chosen ones.
        carriers: the nodes between them that stay in int8.
        values: what is quantized, in graph order; True where what computes it is in int8 too, so that all
            its readers read what came out of int8.
    """

    sites: list[Site]
    carriers: set[ir.Node] = field(default_factory=set)
    values: dict[ir.Value, bool] = field(default_factory=dict)

    @property
    def observed(self) -> list[ir.Value]:
        """The values whose ranges calibration must find."""
        return [value for value in self.values if not match.is_constant(value)]

    def beside(self, values: Iterable[ir.Value]) -> list[Site]:
        """The sites to leave out so that none of ``values`` is in the region."""
        bad = {value for value in values if value in self.values}
        if not bad:
            return []
        next_to = [site for site in self.sites if site.data in bad or self._result(site) in bad]
        return next_to or self.sites

    def _result(self, site: Site) -> ir.Value:
        """What a site computes, behind its Relu or Clip where that is carried."""
        reader = match.only_reader(site.output)
        limited = reader is not None and reader in self.carriers and reader.op_type in LIMITING
        return reader.outputs[0] if limited and reader is not None else site.output


def plan(model: ir.Model, sites: Iterable[Site]) -> Region:
    """Grows the region from the sites: forward to what could stay in int8, and back to what then should.

    A node between sites is carried when something reaches it in int8 already and a site, through carried
    nodes only, reads its result. So the residual stream of a convolutional network is carried, because
    convolutions read it, and that of a transformer is not, because norms do.
    """
    region = Region(list(sites))
    by_node = {site.node: site for site in region.sites}
    available = _available(model, by_node)
    for node in reversed(list(model.graph)):
        if _reached(node, available) and _wanted(node, region, by_node):
            region.carriers.add(node)
    _collect(model, region, by_node)
    return region


def fed_in_float(model: ir.Model, sites: Sequence[Site]) -> list[Site]:
    """The sites whose input would not be computed in int8 if all of them were quantized."""
    area = plan(model, sites)
    inside = {value for value, is_inside in area.values.items() if is_inside}
    return [site for site in sites if site.data not in inside]


def _available(model: ir.Model, by_node: dict[ir.Node, Site]) -> set[ir.Value]:
    """What could be computed in int8."""
    available: set[ir.Value] = set()
    for node in model.graph:
        if was_int8(node) or node in by_node or _reached(node, available):
            available.update(node.outputs)
    return available


def _reached(node: ir.Node, available: set[ir.Value]) -> bool:
    return may_carry(node) and any(value in available for value in activations(node))


def was_int8(node: ir.Node) -> bool:
    """Whether this is where a value that had been quantized before leaves int8."""
    return match.is_op(node, "DequantizeLinear") and not match.is_constant(node.inputs[0])


def may_carry(node: ir.Node) -> bool:
    """Whether there is an int8 kernel for a node that is no site."""
    if node.domain not in ("", "ai.onnx") or not activations(node):
        return False
    if any(value.dtype != ir.DataType.FLOAT for value in (*activations(node), node.outputs[0])):
        return False
    if node.op_type in LIMITING:
        return _limits_a_product(node)
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1
    return node.op_type in MOVING or node.op_type in COMPUTING


def _limits_a_product(node: ir.Node) -> bool:
    """Whether a Relu or Clip has its input for itself, and that is computed where it can be limited."""
    source = node.inputs[0]
    maker = source.producer() if source is not None else None
    if source is None or maker is None or not match.has_one_reader(source):
        return False
    if node.op_type == "Clip" and not _has_a_range(node):
        return False
    return match.is_op(maker, "Conv", "Gemm", "MatMul", "Add", "Mul")


def _has_a_range(node: ir.Node) -> bool:
    """Whether the bounds of a Clip are constants that do not cross: then it would give the upper one only."""
    given = [*node.inputs[1:3], None, None][:2]
    bounds = [None if value is None else match.scalar(value) for value in given]
    if any(value is not None and bound is None for value, bound in zip(given, bounds, strict=True)):
        return False
    low, high = bounds
    return low is None or high is None or low <= high


def activations(node: ir.Node) -> list[ir.Value]:
    """The inputs of such a node that are not its settings."""
    several = node.op_type in ("Add", "Mul", "Concat")
    return [value for value in (node.inputs if several else node.inputs[:1]) if value is not None]


def _wanted(node: ir.Node, region: Region, by_node: dict[ir.Node, Site]) -> bool:
    if node.op_type in LIMITING and match.producer(node.inputs[0], "Conv") in by_node:
        return True  # a convolution in int8 has an int8 output anyway
    for output in node.outputs:
        for reader, index in output.uses():
            if reader in region.carriers and output in activations(reader):
                return True
            if reader in by_node and index == 0:
                return True
    return False


def _collect(model: ir.Model, region: Region, by_node: dict[ir.Node, Site]) -> None:
    """Notes what is quantized: what sites and carriers read, and what they make of it."""
    read: dict[ir.Value, None] = {}
    for node in model.graph:
        if node in by_node:
            read.update(dict.fromkeys(v for v in node.inputs[:1] if v is not None))
        elif node in region.carriers:
            read.update(dict.fromkeys(activations(node)))
    limited = {node.inputs[0] for node in region.carriers if node.op_type in LIMITING}
    inside: dict[ir.Value, None] = {}
    for node in model.graph:
        if node in region.carriers:
            inside.update(dict.fromkeys(node.outputs))
        elif node in by_node:
            made = node.outputs[0]
            if by_node[node].is_convolution or made in read:
                inside[made] = None
    for value in {**read, **inside}:
        if value not in limited and not is_quantized(value):
            region.values[value] = value in inside
