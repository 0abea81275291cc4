"""axes: where the axis of tokens goes, what is aligned with it, and where it ends."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from optc.analysis import axes_products, shapes
from optc.analysis.axes import Followed, follow
from optc.analysis.axes_layout import Factor, Layout, Mixes, start
from optc.analysis.axes_regroup import regroup


def followed(body: str, inputs: str = "float[2, 12, 8] x") -> tuple[Followed, dict[str, ir.Value]]:
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({inputs}) => (float[a, b, c] y) {{ {body} }}'
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    shapes.infer(model)
    layout = start(model.graph.inputs[0], ("batch", "token", ""))
    assert layout is not None
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    return follow(model.graph, model.graph.inputs[0], layout), values


def axis_of(found: Followed, value: ir.Value) -> int | None:
    return found.layouts[value].tokens if value in found.layouts else None


def test_layouts_go_through_reshapes_and_transposes() -> None:
    found, values = followed(
        """
        flat_shape = Constant <value_ints = [-1, 8]> ()
        flat = Reshape (x, flat_shape)
        split_shape = Constant <value_ints = [2, 12, 4, 2]> ()
        split = Reshape (flat, split_shape)
        heads = Transpose <perm = [0, 2, 1, 3]> (split)
        bare = Transpose <perm = [0, 2, 1]> (x)
        y = Relu (bare)
        """
    )
    assert [factor.role for factor in found.layouts[values["flat"]].groups[0]] == ["batch", "token"]
    assert axis_of(found, values["split"]) == 1
    assert axis_of(found, values["heads"]) == 2
    assert axis_of(found, values["y"]) == 2
    assert not found.mixed


def test_tables_are_sides_with_their_axes() -> None:
    found, values = followed(
        "z = Add (x, table)  y = Mul (z, mask)",
        "float[2, 12, 8] x, float[12, 8] table, float[2, 12, 1] mask",
    )
    steps = {node.op_type: step for node, step in found.steps.items()}
    assert [(s.index, s.tokens, s.batch) for s in steps["Add"].sides] == [(1, 0, None)]
    assert [(s.index, s.tokens, s.batch) for s in steps["Mul"].sides] == [(1, 1, 0)]


@pytest.mark.parametrize(
    "cut",
    [
        """sizes = Constant <value_ints = [3, 9]> ()  ahead, others = Split <axis = 1> (x, sizes)""",
        """one = Constant <value_ints = [1]> ()  zero = Constant <value_ints = [0]> ()
        three = Constant <value_ints = [3]> ()  far = Constant <value_ints = [9223372036854775807]> ()
        ahead = Slice (x, zero, three, one)  others = Slice (x, three, far, one)""",
    ],
    ids=["split", "slices"],
)
def test_others_may_be_apart_from_the_first_tokens_and_come_back(cut: str) -> None:
    """As rotary positions do that leave the class token and registers out."""
    inputs = "float[2, 12, 8] x, float[9, 8] table"
    found, values = followed(
        f"{cut}  turned = Mul (others, table)  y = Concat <axis = 1> (ahead, turned)", inputs
    )
    assert not found.mixed
    assert found.layouts[values["turned"]].groups[1] == (Factor("token", 9, skip=3),)
    assert found.layouts[values["y"]].groups[1] == (Factor("token", 12),)
    assert values["ahead"] not in found.layouts
    steps = {node.op_type: step for node, step in found.steps.items()}
    assert [(s.index, s.tokens) for s in steps["Mul"].sides] == [(1, 0)]
    assert steps["Concat"].first == 3


@pytest.mark.parametrize("joined", ["others, ahead", "few, others", "others, others"])
def test_others_that_come_back_elsewhere_end_the_axis(joined: str) -> None:
    cut = """sizes = Constant <value_ints = [6, 6]> ()  ahead, others = Split <axis = 1> (x, sizes)
        again = Relu (x)  more = Constant <value_ints = [2, 10]> ()
        few, rest = Split <axis = 1> (again, more)"""
    found, values = followed(f"{cut}  y = Concat <axis = 1> ({joined})")
    assert list(found.mixed.values()) == ["Concat appends to the tokens"]
    assert values["y"] in found.tainted


def test_what_computes_across_tokens_ends_the_axis() -> None:
    found, values = followed(
        """
        axes = Constant <value_ints = [1]> ()
        mean = ReduceMean <keepdims = 1> (x, axes)
        y = Sub (x, mean)
        """
    )
    assert values["mean"] not in found.layouts
    assert axis_of(found, values["y"]) == 1  # one number for all tokens joins nothing
    assert [node.op_type for node in found.mixed] == ["ReduceMean"]


def test_joining_with_what_was_mixed_is_refused() -> None:
    found, values = followed(
        """
        axis = Constant <value_int = 1> ()
        sums = CumSum (x, axis)
        y = Add (x, sums)
        """
    )
    assert {node.op_type for node in found.mixed} == {"CumSum", "Add"}
    assert values["y"] not in found.layouts


def layout(*groups: tuple[tuple[str, int], ...]) -> Layout:
    return Layout(tuple(tuple(Factor(role, size) for role, size in group) for group in groups))  # type: ignore[arg-type]


def test_cutting_the_tokens_into_windows_is_refused() -> None:
    tokens = layout((("batch", 2),), (("token", 12),), (("", 8),))
    with pytest.raises(Mixes, match="windows"):
        regroup(tokens, [2, 3, 4, 8])
    assert regroup(tokens, [24, 8]).tokens == 0
    assert regroup(tokens, [2, 12, 2, 4]).groups[2:] == ((Factor("", 2),), (Factor("", 4),))


def test_a_batch_of_one_disappears_in_a_reshape() -> None:
    tokens = layout((("batch", 1),), (("token", 12),), (("", 8),))
    flat = regroup(tokens, [12, 8])
    assert flat.axis("batch") is None and flat.is_whole(0)
    assert regroup(tokens, [1, 12, 8]).axis("batch") == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_that_all_of_the_batch_asks_with_end_at_the_attention(batch: int) -> None:
    """Its result has a batch that they have not."""
    sizes = {"q": (1, 4, 12, 2), "k": (batch, 4, 9, 2), "v": (batch, 4, 9, 2), "y": (batch, 4, 12, 2)}
    kind = ir.TensorType(ir.DataType.FLOAT)
    q, k, v, y = (ir.Value(name=name, shape=ir.Shape(size), type=kind) for name, size in sizes.items())
    call = ir.node("Attention", [q, k, v], {"causal": 0}, domain="optc", outputs=[y])
    layout = start(q, ("batch", "", "token", ""))
    assert layout is not None
    if batch == 1:
        assert axes_products.attention(call, {q: layout}).outputs[0].tokens == 2
        return
    with pytest.raises(Mixes, match="the same for all of the batch"):
        axes_products.attention(call, {q: layout})
