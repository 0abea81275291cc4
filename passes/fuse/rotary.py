"""Rotary position embedding: pairs of columns turned by an angle that grows with the position.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import Match, NearMiss, Pattern

from . import _frame, _new, _turn
from ._inside import inside


@dataclass(frozen=True)
class _Turn:
    """``output`` is ``x`` [B, N, S, D] with its first ``width`` columns turned, by tables as wide."""

    x: ir.Value
    cos: ir.Value
    sin: ir.Value
    interleaved: bool
    width: int
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    cuts: tuple[ir.Node, ...]


class RotaryEmbedding(Pattern):
    """x * cos + rotate(x) * sin"""

    name: ClassVar[str] = "rotary"
    family: ClassVar[str] = "rotary"
    anchors: ClassVar[frozenset[str]] = frozenset({"Add"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The rotation whose two terms ``node`` adds."""
        turn = _turn_at(node)
        if turn is None:
            return None
        turn = _with_rest(turn)
        size = match.static_dim(turn.x, 3)
        if match.rank(turn.x) != 4 or size is None:
            raise NearMiss("the rotated value is not known to be [batch, heads, length, size]")
        tables = [_table(each, turn) for each in (turn.cos, turn.sin)]
        return Match(
            "RotaryEmbedding",
            [turn.x, *tables],
            [turn.output],
            _body(turn.width, size, turn.interleaved),
            {"interleaved": int(turn.interleaved), "rotary_dim": turn.width},
            inside(turn.nodes, turn.cuts),
        )


def _turn_at(add: ir.Node) -> _Turn | None:
    for straight, crossed in match.operands(add):
        by_cos, by_sin = match.producer(straight, "Mul"), match.producer(crossed, "Mul")
        if by_cos is None or by_sin is None:
            return None
        for moved, sin in match.operands(by_sin):
            found = _turn.turned(moved)
            if found is None:
                continue
            for x, cos in match.operands(by_cos):
                if x is found.source:
                    output, width = add.outputs[0], match.static_dim(x, -1) or 0
                    nodes = (add, by_cos, by_sin, *found.nodes)
                    return _Turn(x, cos, sin, found.interleaved, width, output, nodes, ())
    return None


def _with_rest(turn: _Turn) -> _Turn:
    """The rotation of a whole of which ``turn`` takes the first columns and the others stay unchanged."""
    join = match.only_reader(turn.output)
    first = _turn.part(turn.x)
    if join is None or join.op_type != "Concat" or len(join.inputs) != 2 or first is None:
        return turn
    rest = _turn.part(join.inputs[1])
    whole = match.static_dim(first.source, -1)
    if join.inputs[0] is not turn.output or rest is None or rest.source is not first.source:
        return turn
    rank = match.rank(join.outputs[0]) or 0
    if match.attr_int(join, "axis", 0) not in (-1, rank - 1) or first.step != 1 or rest.step != 1:
        return turn
    if (first.start, first.stop, rest.start, rest.stop) != (0, turn.width, turn.width, whole):
        return turn
    ends = (turn.x, join.inputs[1])
    cuts = tuple(node for end in ends if end is not None and (node := end.producer()) is not None)
    nodes = (*turn.nodes, join)
    return replace(turn, x=first.source, output=join.outputs[0], nodes=nodes, cuts=cuts)


def _table(table: ir.Value, turn: _Turn) -> Operand:
    """The first column of each pair of ``table``, as [batch or 1, length, pairs]."""
    rank = match.rank(table)
    if rank is None or not 2 <= rank <= 4 or match.static_dim(table, -1) != turn.width:
        raise NearMiss("the cosines and sines are not known to have a column for each rotated one")
    if not match.same_dim(match.dim(table, -2), match.dim(turn.x, 2)):
        raise NearMiss("the cosines and sines are not known to have a row for each position")
    if rank > 2 and match.static_dim(table, rank - 3) != 1:
        raise NearMiss("the cosines and sines differ by head, or heads are not the second axis")
    if rank == 4 and not _frame.fits(match.dim(table, 0), match.dim(turn.x, 0)):
        raise NearMiss("the cosines and sines are not known to be for the batch")
    if not _turn.is_doubled(table, turn.interleaved):
        raise NearMiss("the two columns of a pair are not known to turn by the same angle")
    half = (
        _new.slice_last(table, 0, turn.width, 2)
        if turn.interleaved
        else _new.slice_last(table, 0, turn.width // 2)
    )
    if rank == 4:
        return _new.squeeze(half, 1)
    return half if rank == 3 else _new.unsqueeze(half, 0)


def _body(width: int, size: int, interleaved: bool) -> str:
    """The rotation of the first ``width`` of ``size`` columns, as ONNX text."""
    rest = ["rest"] if size > width else []
    lines = [
        "head = Constant <value_ints: ints = [1]> ()",
        "c = Unsqueeze (cos, head)",
        "s = Unsqueeze (sin, head)",
    ]
    lines += _pairs(width, size - width, interleaved)
    lines += ["ac = Mul (a, c)", "bs = Mul (b, s)", "bc = Mul (b, c)", "as = Mul (a, s)"]
    lines += ["first = Sub (ac, bs)", "second = Add (bc, as)"]
    if not interleaved:
        lines.append(f"y = Concat <axis: int = -1> ({', '.join(['first', 'second', *rest])})")
    else:
        lines += [
            "last = Constant <value_ints: ints = [-1]> ()",
            "first_column = Unsqueeze (first, last)",
            "second_column = Unsqueeze (second, last)",
            "stacked = Concat <axis: int = -1> (first_column, second_column)",
            f"sizes = Constant <value_ints: ints = [0, 0, 0, {width}]> ()",
            f"{'turned' if rest else 'y'} = Reshape (stacked, sizes)",
        ]
        lines += ["y = Concat <axis: int = -1> (turned, rest)"] if rest else []
    return "(x, cos, sin) => (y) {\n" + "".join(f"  {line}\n" for line in lines) + "}"


def _pairs(width: int, rest: int, interleaved: bool) -> list[str]:
    """Statements for the columns ``a`` and ``b`` of all pairs, and for ``rest``."""
    if not interleaved:
        widths = ", ".join(map(str, [width // 2, width // 2, *([rest] if rest else [])]))
        outputs = "a, b, rest" if rest else "a, b"
        return [
            f"widths = Constant <value_ints: ints = [{widths}]> ()",
            f"{outputs} = Split <axis: int = -1> (x, widths)",
        ]
    lines = []
    source = "x"
    if rest:
        lines.append(f"widths = Constant <value_ints: ints = [{width}, {rest}]> ()")
        lines.append("part, rest = Split <axis: int = -1> (x, widths)")
        source = "part"
    for name, start in (("a", 0), ("b", 1)):
        columns = ", ".join(map(str, range(start, width, 2)))
        lines.append(f"{name}_columns = Constant <value_ints: ints = [{columns}]> ()")
        lines.append(f"{name} = Gather <axis: int = -1> ({source}, {name}_columns)")
    return lines
