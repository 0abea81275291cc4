"""Inferred shapes and integers are either right or unknown; a wrong one lets a pass change results."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optc.analysis import shapes

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def inferred(text: str) -> dict[str, ir.Value]:
    model = ir.from_onnx_text(HEAD + text)
    shapes.infer(model)
    values = {v.name or "": v for node in model.graph for v in node.outputs}
    return {**values, **{v.name or "": v for v in model.graph.inputs}}


def test_symbols_flow_through() -> None:
    values = inferred(
        "g (float[B,S,4] x) => (y) { t = Transpose<perm = [1, 0, 2]>(x)  y = Concat<axis = 0>(t, t) }"
    )
    assert str(values["y"].shape) == "[2*S,B,4]"


@pytest.mark.parametrize("op", ["Add", "Mul", "Div", "Max", "Pow", "Where"])
def test_different_symbols_do_not_broadcast_to_the_first(op: str) -> None:
    call = "Where(c, a, b)" if op == "Where" else f"{op}(a, b)"
    values = inferred(f"g (bool[1] c, float[A,4] a, float[B,4] b) => (y) {{ y = {call} }}")
    rows = values["y"].shape[0]
    assert isinstance(rows, ir.SymbolicDim) and rows.value not in ("A", "B")
    assert values["y"].shape[1] == 4


def test_slice_of_a_table_broadcasts_to_what_it_was_cut_for() -> None:
    values = inferred(
        """g (float[B,S,4] x) => (y) <
            float[1,9,4] table, int64[1] zero = {0}, int64[1] one = {1}, int64[1] end = {2}
        > {
            s = Shape(x)  n = Slice(s, one, end)  p = Slice(table, zero, n, one)  y = Add(x, p)
        }"""
    )
    assert str(values["p"].shape) == "[1,Min(9, S),4]"
    assert str(values["y"].shape) == "[B,S,4]"


def test_run_time_split_sizes_and_squeeze_axes() -> None:
    values = inferred(
        """g (float[6] x, int64[2] sizes, float[1,3,1] z, int64[K] axes) => (a, b, c) {
            a, b = Split(x, sizes)  c = Squeeze(z, axes)
        }"""
    )
    assert all(isinstance(values[name].shape[0], ir.SymbolicDim) for name in "ab")
    assert values["c"].shape is None and shapes.is_marked_unknown(values["c"])


def test_branches_of_different_rank_have_no_rank() -> None:
    values = inferred(
        """g (bool c, float[3] x, int64[K] s) => (y) {
            y = If (c) <
                then_branch = t () => (p) { p = Neg(x) },
                else_branch = e () => (q) { q = Reshape(x, s) }
            >
        }"""
    )
    assert values["y"].shape is None


def test_growing_loop_value() -> None:
    """The body concatenates: what it starts with is not what it ends with."""
    values = inferred(
        """g (int64 n, bool c, float[2] x) => (y) {
            y = Loop (n, c, x) <
                body = b (int64 i, bool go, float[L] carried) => (bool more, float[M] longer) {
                    more = Identity(go)  longer = Concat<axis = 0>(carried, x)
                }
            >
        }"""
    )
    assert values["y"].shape is not None and values["y"].shape[0] not in (2, 4)


def test_loop_without_a_condition() -> None:
    """The condition is optional; what comes behind the Loop must not lose its shape over it."""
    values = inferred(
        """g (int64 n, float[2] x) => (z) {
            y = Loop (n, "", x) <
                body = b (int64 i, bool go, float[2] carried) => (bool more, float[2] next) {
                    more = Identity(go)  next = Neg(carried)
                }
            >
            z = Relu(x)
        }"""
    )
    assert values["z"].shape == ir.Shape([2])


def test_slice_backwards_to_a_far_end() -> None:
    """By the specification nothing is left; ONNX Runtime keeps the first element."""
    values = inferred(
        """g (float[1,6,2] x) => (y)
           <int64[1] s = {0}, int64[1] e = {2147483647}, int64[1] a = {1}, int64[1] t = {-1}> {
            y = Slice(x, s, e, a, t)
        }"""
    )
    assert values["y"].shape is not None and not isinstance(values["y"].shape[1], int)


def test_integers_of_shape_tensors() -> None:
    values = inferred(
        """g (float[B,S,6] x) => (y) <int64[1] tail = {-1}, int64[1] at = {1}> {
            s = Shape(x)  n = Gather(s, at)  t = Concat<axis = 0>(n, tail)  y = Reshape(x, t)
            f = Cast<to = 1>(s)  h = Div(f, f)  narrow = Cast<to = 3>(s)
        }"""
    )
    assert shapes.constant_ints(values["s"]) == ("B", "S", 6)
    assert shapes.constant_ints(values["t"]) == ("S", -1)
    assert shapes.constant_ints(values["h"]) is None
    assert shapes.constant_ints(values["narrow"]) is None


def test_a_quotient_that_is_the_length_of_a_tensor() -> None:
    """Frames of a convolution, counted as exporters do; Div cuts towards 0, and dims are rounded down."""
    counted = "n = Shape<start = 2>(x)  less = Sub(n, two)  frames = Div(less, four)  more = Add(frames, one)"
    split = "sizes = Concat<axis = 0>(batch, more, minus, three)  y = Reshape(t, sizes)"
    texts = (
        f"""g (float[B,1,N] x, float[6,1,2] w) => (y) <
            int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] one = {{1}}, int64[1] minus = {{-1}},
            int64[1] three = {{3}}
        > {{
            batch = Shape<end = 1>(x)  {before} {counted} {after} t = Transpose<perm = [0, 2, 1]>(c) {split}
        }}"""
        for before, after in (("c = Conv<strides = [4]>(x, w)", ""), ("", "c = Conv<strides = [4]>(x, w)"))
    )
    known, unknown = (inferred(text) for text in texts)
    assert known["y"].shape[2:] == (2, 3)
    assert shapes.constant_ints(known["frames"]) is not None
    assert shapes.constant_ints(unknown["frames"]) is None


def test_a_length_counted_ahead_of_the_tensor_is_known_the_second_time() -> None:
    """Exporters compute sizes where they have what these depend on, long before the tensor is there."""
    model = ir.from_onnx_text(
        HEAD
        + """g (float[1,1,N] x, float[6,1,2] w) => (c, frames) <
            int64[1] two = {2}, int64[1] four = {4}
        > {
            n = Shape<start = 2>(x)  less = Sub(n, two)  frames = Div(less, four)
            c = Conv<strides = [4]>(x, w)
        }"""
    )
    frames = model.graph.outputs[1]
    shapes.infer(model)
    assert shapes.constant_ints(frames) is None
    shapes.infer(model)
    known = shapes.constant_ints(frames)
    assert known is not None and str(known[0]) == str((ir.SymbolicDim("N") - 2) // 4)


def test_batch_times_tokens_divided_by_the_batch_is_the_tokens() -> None:
    """By a size that is not known either; what may leave a rest stays unknown."""
    values = inferred(
        """g (float[B,N,M] x) => (int64[1] tokens, int64[1] one, int64[1] rest) < int64[1] three = {3} > {
            b = Shape<end = 1>(x)  n = Shape<start = 1, end = 2>(x)  m = Shape<start = 2>(x)
            bn = Mul(b, n)  all = Mul(bn, three)  b3 = Mul(b, three)
            tokens = Div(all, b3)  one = Div(bn, bn)  rest = Div(bn, m)
        }"""
    )
    assert [str(size) for size in shapes.constant_ints(values["tokens"]) or ()] == ["N"]
    assert shapes.constant_ints(values["one"]) == (1,)
    assert shapes.constant_ints(values["rest"]) is None


def test_batch_times_heads_divided_by_heads_is_the_batch() -> None:
    """As attention over [batch * heads, ...] computes it; what may leave a rest is not known."""
    values = inferred(
        """g (float[B,S,6] x) => (y)
           <int64 first = {0}, int64 second = {1}, int64 heads = {4}, int64 two = {2}, int64 minus = {-4}> {
            s = Shape(x)  c = Gather(s, first)  n = Mul(c, heads)  l = Gather(s, second)
            b = Div(n, heads)  half = Div(n, two)  rest = Div(l, heads)  negative = Div(n, minus)
            less = Sub(l, heads)  unsure = Div(less, heads)  y = Identity(b)
        }"""
    )
    assert shapes.constant_ints(values["b"]) == ("B",) and shapes.constant_ints(values["half"]) == ("2*B",)
    for name in ("rest", "negative", "unsure"):
        assert shapes.constant_ints(values[name]) is None


@pytest.mark.parametrize(("to", "fits"), [(6, False), (7, True), (1, False), (11, True)])
def test_numbers_that_a_cast_changes_are_not_known(to: int, fits: bool) -> None:
    values = inferred(
        f"""g () => (y) <int64[1] big = {{1099511627777}}> {{
            w = Cast<to = {to}>(big)  y = Cast<to = 7>(w)
        }}"""
    )
    assert shapes.constant_ints(values["y"]) == ((1099511627777,) if fits else None)


@pytest.mark.parametrize("to", [6, 7], ids=["int32", "int64"])
def test_a_cast_to_wide_integers_keeps_them(to: int) -> None:
    values = inferred(
        f"""g (float[B,S,6] x) => (y) <int64[1] tail = {{-1}}, int64[1] at = {{1}}> {{
            s = Shape(x)  w = Cast<to = {to}>(s)  l = Cast<to = 7>(w)  n = Gather(l, at)
            t = Concat<axis = 0>(tail, n)  y = Reshape(x, t)
        }}"""
    )
    assert shapes.constant_ints(values["w"]) == ("B", "S", 6)
    assert str(values["y"].shape[1]) == "S"


def test_shape_that_an_exporter_computes() -> None:
    """`Where(Equal(shape, -1), ones, shape)`, as the TorchScript exporter writes expand(-1, n)."""
    values = inferred(
        """g (float[B,1,4] x) => (y) <
            int64[1] three = {3}, int64 minus = {-1}, int64[1] two = {2}, int64[1] zero = {0}
        > {
            s = Shape(x)  b = Gather(s, zero)  c = Gather(s, two)  want = Concat<axis = 0>(b, three, c)
            k = Shape(want)  ones = ConstantOfShape<value = int64[1] {1}>(k)  flags = Mul(ones, minus)
            e = Equal(want, flags)  size = Where(e, ones, want)  y = Expand(x, size)
        }"""
    )
    assert str(values["y"].shape) == "[B,3,4]"


def test_overridable_input_is_no_constant() -> None:
    model = ir.from_onnx_text(HEAD + "g (float[6] x, int64[2] s) => (y) { y = Reshape(x, s) }")
    default = model.graph.inputs[1]
    default.const_value = ir.tensor(np.array([2, 3]), name="s")
    model.graph.register_initializer(default)
    shapes.infer(model)
    assert not any(isinstance(dim, int) for dim in model.graph.outputs[0].shape)
    assert shapes.constant_tensor(default) is None and shapes.constant_ints(default) is None
    assert default.const_value is not None


def test_declared_shape_that_the_graph_contradicts_is_dropped() -> None:
    model = ir.from_onnx_text(HEAD + "g (float[3,4] x) => (y) { t = Transpose(x)  y = Neg(t) }")
    transposed = model.graph[0].outputs[0]
    transposed.shape = ir.Shape([9, 9])
    shapes.infer(model)
    assert str(transposed.shape) == "[4,3]"


def test_fresh_forgets_what_a_pass_made_stale() -> None:
    model = ir.from_onnx_text(HEAD + "g (float[3,4] x) => (float[M,N] y) { t = Transpose(x)  y = Neg(t) }")
    shapes.infer(model)
    model.graph.inputs[0].shape = ir.Shape(["rows", 4])
    shapes.infer(model, fresh=True)
    assert str(model.graph[0].outputs[0].shape) == "[4,rows]"


@pytest.mark.parametrize("name", ["0_batch", "my dim", "?", "a::b", "N-", "("])
def test_dim_names_that_are_no_expressions(name: str) -> None:
    x = ir.val("x", ir.DataType.FLOAT, [name, 4])
    node = ir.node("Concat", [x, x], {"axis": 0}, name="n")
    node.outputs[0].name = "y"
    model = ir.Model(
        ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g"), ir_version=10
    )
    shapes.infer(model)
    [symbol] = x.shape[0].free_symbols()
    assert str(node.outputs[0].shape) == f"[2*{symbol},4]"


def test_notes_do_not_reach_the_file_and_do_not_pose_as_data() -> None:
    values = inferred("g (float[2,3] x) => (y) { y = Shape(x) }")
    assert shapes.constant_ints(values["y"]) == (2, 3)
    assert not values["y"].metadata_props and values["y"].const_value is None


def test_second_inference_does_not_take_a_bound_for_a_size() -> None:
    """The dim of the slice is unknown the first time; the library's guess must not refine it later."""
    model = ir.from_onnx_text(
        HEAD
        + """g (float[B,N] x) => (y) <int64[1] s = {0}, int64[1] e = {10}, int64[1] a = {1}>
            { t = Slice(x, s, e, a)  y = Neg(t) }"""
    )
    for _ in range(2):
        shapes.infer(model)
        assert isinstance(model.graph.outputs[0].shape[1], ir.SymbolicDim)


@pytest.mark.parametrize("declared", ["5", "out"])
def test_what_a_model_declares_is_kept(declared: str) -> None:
    text = f"g (float[n] x, float[n] y) => (float[{declared}] z) {{ z = Add(x, y) }}"
    assert str(inferred(text)["z"].shape) == f"[{declared}]"


def test_twice_is_once() -> None:
    model = ir.from_onnx_text(HEAD + "g (float[A] a, float[B] b) => (y) { t = Add(a, b)  y = NonZero(t) }")
    shapes.infer(model)
    before = [str(v.shape) for node in model.graph for v in node.outputs]
    shapes.infer(model)
    assert [str(v.shape) for node in model.graph for v in node.outputs] == before
