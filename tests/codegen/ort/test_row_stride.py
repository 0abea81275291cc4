"""Hidden layers get wider rows where nothing notices, and the results stay what they were."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optc import oracle, registry, session
from optc.analysis import shapes
from optc.passbase import Context
from optc.passes.legalize import Legalize
from optc.verify import verify

WIDTH, WIDER = 1024, 1040
WEIGHTS = {
    "w1": (8, WIDTH),
    "w2": (WIDTH, 4),
    "b1": (WIDTH,),
    "b2": (4,),
    "g1": (8, WIDTH),
    "r1": (1, WIDTH),
    "rows": (5, 1),
    "column": (8, 1),
    "table": (5, WIDTH),
    "square": (WIDTH, WIDTH),
    "t1": (WIDTH, 8),
    "t2": (4, WIDTH),
    "n": (1,),
    "odd": (8, 512),
}


def model(body: str, x: str = "float[b,8] x", y: str = "float[b,4] y", **constants: np.ndarray) -> ir.Model:
    """A main graph with those of the weights that its text mentions."""
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal(dims).astype(np.float32) for name, dims in WEIGHTS.items()
    } | constants
    used = {name: ir.tensor(arrays[name], name=name) for name in arrays if re.search(rf"\b{name}\b", body)}
    types = {"FLOAT": "float", "DOUBLE": "double", "INT64": "int64"}
    declared = [f"{types[t.dtype.name]}[{','.join(map(str, t.shape))}] {name}" for name, t in used.items()]
    text = f"""<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
        g ({", ".join([x, *declared])}) => ({y}) <float[b,{WIDTH}] fused> {{ {body} }}"""
    made = ir.from_proto(onnx.parser.parse_model(text))
    for number, node in enumerate(made.graph):
        node.name = f"node_{number}"
    for value in [value for value in made.graph.inputs if value.name in used]:
        made.graph.inputs.remove(value)
        value.const_value = used[str(value.name)]
        made.graph.register_initializer(value)
    shapes.infer(made)
    return made


def legalized(made: ir.Model, **lowerings: str) -> tuple[ir.Model, int]:
    target = registry.find_target("cpu")
    report = Legalize().run(made, Context(target=target, lowerings=lowerings))
    verify(made, target=target)
    return made, report.matched.get("padded rows", 0)


def widths(made: ir.Model) -> list[int]:
    """The rows of the right operands of products, or their columns where they are turned."""
    products = [node for node in made.graph if node.op_type in ("MatMul", "Gemm", "FusedGemm")]
    turned = [node.attributes.get_int("transB", 0) for node in products]
    return [node.inputs[1].shape[each] for node, each in zip(products, turned, strict=True)]


def assert_widened(made: ir.Model, rows: list[int], **feeds: np.ndarray) -> ir.Model:
    feeds = feeds or {"x": np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)}
    expected = oracle.run(made.clone(), feeds)
    again, count = legalized(made)
    assert count == 1 and widths(again) == rows
    for optimize in (False, True):
        actual = oracle.run(again, feeds, optimize=optimize)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-4)
    assert legalized(again)[1] == 0  # nothing is left to do
    return again


BODIES = {
    "no activation": ("h = MatMul(x, w1)  y = MatMul(h, w2)", [8, WIDER]),
    "bias": ("m = MatMul(x, w1)  h = Add(b1, m)  g = Relu(h)  y = MatMul(g, w2)", [8, WIDER]),
    "row of biases": ("m = MatMul(x, w1)  h = Add(m, r1)  g = Gelu(h)  y = MatMul(g, w2)", [8, WIDER]),
    "sigmoid of zero is no zero": ("m = MatMul(x, w1)  h = Sigmoid(m)  y = MatMul(h, w2)", [8, WIDER]),
    "one number": ("m = MatMul(x, w1)  h = Mul(m, n)  g = Tanh(h)  y = MatMul(g, w2)", [8, WIDER]),
    "gate": (
        "m = MatMul(x, w1) s = Sigmoid(m) a = Mul(m, s) u = MatMul(x, g1) h = Mul(a, u) y = MatMul(h, w2)",
        [8, 8, WIDER],
    ),
    "Gemm": ("h = Gemm(x, w1, b1)  g = Gelu(h)  y = Gemm(g, w2, b2)", [8, WIDER]),
    "turned": (
        "h = Gemm<transB = 1>(x, t1, b1)  g = Gelu(h)  y = Gemm<transB = 1>(g, t2, b2)",
        [8, WIDER],
    ),
    "kernels of the runtime": (
        "h = MatMul(x, w1)  g = com.microsoft.BiasGelu(h, b1)  y = MatMul(g, w2)",
        [8, WIDER],
    ),
    "numbers per row": (
        "m = MatMul(x, w1)  h = Add(m, rows)  g = Mul(h, table)  y = MatMul(g, w2)",
        [8, WIDER],
    ),
    "fused": (
        'fused = com.microsoft.FusedGemm<activation = "Relu">(x, w1, b1)  y = Gemm(fused, w2)',
        [8, WIDER],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_layer_gets_wider_rows(name: str) -> None:
    body, rows = BODIES[name]
    assert_widened(model(body), rows)


def test_reshapes_that_keep_rows_are_followed() -> None:
    """GPT-2 multiplies matrices and activates tensors of rank 3, with a size from the input between them."""
    body = """m = Gemm(x, w1, b1)  s = Shape<start = 0, end = 1>(x)  c = Concat<axis = 0>(two, s, last)
        v = Reshape(m, c)  g = Gelu(v)  f = Reshape(g, flat)  y = MatMul(f, w2)"""
    sizes = {
        "two": np.array([1], np.int64),
        "last": np.array([WIDTH], np.int64),
        "flat": np.array([-1, WIDTH], np.int64),
    }
    made = assert_widened(model(body, **sizes), [8, WIDER])
    assert {node.outputs[0].shape[-1] for node in made.graph if node.op_type == "Reshape"} == {WIDER}


def test_layers_with_the_same_weights_share_the_wider_ones() -> None:
    body = """a = MatMul(x, w1)  b = Relu(a)  c = MatMul(b, w2)
        d = MatMul(z, w1)  e = Relu(d)  f = MatMul(e, w2)  y = Add(c, f)"""
    made = model(body, x="float[b,8] x, float[b,8] z")
    made, count = legalized(made)
    assert count == 2
    assert len(made.graph.initializers) == 2
    assert not any(getattr(v.const_value, "cache", True) for v in made.graph.initializers.values())


REFUSED = {
    "another reader": "h = MatMul(x, w1)  g = Relu(h)  s = ReduceSum(g)  p = MatMul(g, w2)  y = Add(p, s)",
    "another reader of what comes before": (
        "h = MatMul(x, w1)  g = Relu(h)  s = ReduceSum(h)  p = MatMul(g, w2)  y = Add(p, s)"
    ),
    "not per element": "h = MatMul(x, w1)  g = Softmax(h)  y = MatMul(g, w2)",
    "an infinite factor": "h = MatMul(x, w1)  g = Mul(h, inf)  y = MatMul(g, w2)",
    "a reciprocal": "h = MatMul(x, w1)  g = Reciprocal(h)  y = MatMul(g, w2)",
    "a width that no period divides": "h = MatMul(x, odd)  g = Relu(h)  y = MatMul(g, half)",
    "computed weights": "v = Add(w1, x1)  h = MatMul(x, v)  g = Relu(h)  y = MatMul(g, w2)",
    "no product before it": "h = Expand(x1, wide)  g = Relu(h)  y = MatMul(g, w2)",
    "a column for all": "c = MatMul(x, column)  m = MatMul(x, w1)  h = Add(m, c)  y = MatMul(h, w2)",
    "one row": "h = MatMul(one, w1)  g = Relu(h)  p = MatMul(g, w2)  y = Add(p, x2)",
    "rows that a reshape takes apart": (
        "h = MatMul(x, w1)  r = Reshape(h, parts)  g = Relu(r)  f = Reshape(g, back)  y = MatMul(f, w2)"
    ),
}
CONSTANTS = {
    "inf": np.array(np.inf, np.float32),
    "half": np.ones((512, 4), np.float32),
    "wide": np.array([3, WIDTH], np.int64),
    "parts": np.array([-1, 2, 512], np.int64),
    "back": np.array([-1, WIDTH], np.int64),
}
INPUTS = "float[b,8] x, float[8,1024] x1, float[b,4] x2, float[1,8] one"


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_noticed_stays(name: str) -> None:
    made, count = legalized(model(REFUSED[name], x=INPUTS, **CONSTANTS))
    assert count == 0
    assert WIDER not in widths(made)


def test_rows_that_a_product_reads_as_columns_stay() -> None:
    body = "h = MatMul(x, w1)  g = Relu(h)  y = Gemm<transA = 1>(g, w2)"
    _, count = legalized(model(body, x="float[1024,8] x", y="float[1024,4] y"))
    assert count == 0


def test_a_layer_that_is_added_to_its_own_product_stays() -> None:
    body = "h = MatMul(x, w1)  g = Relu(h)  y = Gemm(g, square, g)"
    _, count = legalized(model(body, y="float[b,1024] y"))
    assert count == 0


def test_an_output_of_the_graph_keeps_its_shape() -> None:
    body = "h = MatMul(x, w1)  g = Relu(h)  y = MatMul(g, w2)"
    _, count = legalized(model(body, y="float[b,4] y, float[b,1024] g"))
    assert count == 0


def test_float64_rows_have_another_width() -> None:
    arrays = {"w1": np.ones((8, WIDTH)), "w2": np.ones((WIDTH, 4))}
    body = "h = MatMul(x, w1)  g = Relu(h)  y = MatMul(g, w2)"
    _, count = legalized(model(body, x="double[b,8] x", y="double[b,4] y", **arrays))
    assert count == 0


def test_it_is_undone_by_a_decision_and_the_gate_knows_it() -> None:
    from optc import gate

    body = "h = MatMul(x, w1)  g = Relu(h)  y = MatMul(g, w2)"
    made = model(body)
    assert gate.families_of(made, registry.find_target("cpu")) == {"row-stride": ["padded rows"]}
    made, count = legalized(made, **{"row-stride": "inline"})
    assert count == 0 and widths(made) == [8, WIDTH]


def test_the_runtime_opens_it() -> None:
    made, _ = legalized(model("h = MatMul(x, w1)  g = Relu(h)  y = MatMul(g, w2)"))
    program = session.open_session(made)
    assert program.run(None, {"x": np.ones((2, 8), np.float32)})[0].shape == (2, 4)
