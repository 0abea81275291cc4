"""What is not known of the integers in shape tensors stays unknown: no guess, no crash."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from optc.analysis import shapes

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def shape(body: str, inputs: str, constants: str = "int64[1] zero = {0}") -> list[int | str | None]:
    """Of ``y``; sizes that nothing in the model names are None."""
    model = ir.from_onnx_text(f"{HEAD} g ({inputs}) => (y) <{constants}> {{ {body} }}")
    given = {str(dim) for value in model.graph.inputs for dim in value.shape or ()}
    shapes.infer(model)
    dims = model.graph.outputs[0].shape
    assert dims is not None
    return [dim if isinstance(dim, int) else dim.value if dim.value in given else None for dim in dims]


def test_sizes_with_two_names_may_differ() -> None:
    """Taken for equal, the mask would choose the first of them for good."""
    body = """a = Shape(x)  b = Shape(z)  same = Equal(a, b)
        size = Where(same, a, one)  y = ConstantOfShape(size)"""
    constants = "int64[1] one = {1}"
    assert shape(body, "float[N] x, float[M] z", constants) == [None]
    assert shape(body, "float[N] x, float[N] z", constants) == ["N"]


def test_a_size_divided_by_zero_is_not_known() -> None:
    body = "size = Shape(x)  quotient = Div(size, zero)  y = ConstantOfShape(quotient)"
    assert shape(body, "float[N] x") == [None]
    assert shape(body, "float[6] x") == [None]


def test_a_slice_with_ends_that_come_at_run_time() -> None:
    assert shape("y = Slice(x, zero, end)", "float[N, 4] x, int64[1] end")[0] is None


def test_a_slice_along_axes_that_come_at_run_time() -> None:
    """From a known place, or from one that comes as well."""
    inputs = "float[N, 4] x, int64[1] far, int64[1] axes"
    assert shape("y = Slice(x, zero, far, axes)", inputs) == [None, None]
    assert shape("y = Slice(x, start, far, axes)", inputs + ", int64[1] start") == [None, None]


@pytest.mark.parametrize("sum_", ["Add(most, one)", "Mul(most, most)", "Sub(least, one)"])
def test_integers_beyond_their_type_are_not_known(sum_: str) -> None:
    """They wrap around; what stands behind them keeps its type and shape."""
    text = f"""{HEAD} g (float[2, 3] x) => (y, z)
        <int64[1] most = {{{2**63 - 1}}}, int64[1] least = {{{-(2**63)}}}, int64[1] one = {{1}}>
        {{ wrapped = {sum_}  y = Identity(wrapped)  z = Sigmoid(x) }}"""
    model = ir.from_onnx_text(text)
    shapes.infer(model)
    y, z = model.graph.outputs
    assert (y.shape, shapes.constant_ints(y)) == ([1], None)
    assert (z.dtype, z.shape) == (ir.DataType.FLOAT, [2, 3])


def test_a_sum_of_a_size_and_numbers_beyond_their_type() -> None:
    """A list with a symbol in it never becomes a constant, which would have overflowed."""
    text = f"""{HEAD} g (float[N] x) => (y) <int64[1] most = {{{2**63 - 1}}}, int64[1] one = {{1}}>
        {{ size = Shape(x)  both = Concat <axis = 0> (size, most)  y = Add(both, one) }}"""
    model = ir.from_onnx_text(text)
    shapes.infer(model)
    assert shapes.constant_ints(model.graph.outputs[0]) is None
