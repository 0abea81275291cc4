"""Functions that a model brings are inlined before the passes, with unchanged results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import functions, oracle, verify
from optc.capture.opset import newest_opset

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3)).astype(np.float32)
IN_F = '<domain: "own", opset_import: ["": %d, "own": 1, "com.microsoft": 1]>'


def model(main: str, *bodies: str, opset: int = 21, theirs: int = 21) -> onnx.ModelProto:
    header = f'<ir_version: 10, opset_import: ["": {opset}, "own": 1, "com.microsoft": 1]> g '
    return onnx.parser.parse_model(header + main + "".join(f"\n{IN_F % theirs} {body}" for body in bodies))


def compiled(source: onnx.ModelProto, feeds: dict[str, Any]) -> optc.Artifact:
    """At -O1, with the results of the model as it came."""
    made = optc.compile(source, inputs=feeds, gate=False, threads=1)
    expected = oracle.run(ir.from_proto(source), feeds)
    for name, actual in made.run(feeds).items():
        np.testing.assert_allclose(actual, expected[name], rtol=1e-6, atol=1e-6)
    return made


SHAPES = {
    "a result that is not read": (
        '(float[2,3] x) => (float[2,3] y) { "", y = own.f(x) }',
        "f (a) => (b, c) { b = Neg(a)  c = Exp(b) }",
    ),
    "an argument left out": (
        '(float[2,3] x) => (float[2,3] y) { h = Constant<value_float = 0.5>()  y = own.f(x, "", h) }',
        "f (a, low, high) => (b) { b = Clip(a, low, high) }",
    ),
    "attributes with a default, of a call in a function": (
        "(float[2,3] x) => (float[2,3] y) { t = own.g(x)  y = own.g<beta = 0.7>(t) }",
        "g <beta: float = 0.2> (a) => (b) { b = own.f<alpha: float = @beta>(a) }",
        "f <alpha: float = 0.4> (a) => (b) { b = LeakyRelu<alpha: float = @alpha>(a) }",
    ),
    "names that the model has too": (
        "(float[2,3] x) => (float[2,3] b) { t = Neg(x)  a = own.f(t)  b = Add(a, t) }",
        "f (a) => (b) { t = Neg(a)  b = Exp(t) }",
    ),
    "names that a branch has too": (
        """(float[2,3] x, bool c) => (float[2,3] y) { u = own.f(x)  y = If (c) <
            then_branch = yes () => (float[2,3] o) { t = Neg(u)  o = own.f(t) },
            else_branch = no () => (float[2,3] p) { t = Exp(u)  p = Neg(t) }> }""",
        "f (a) => (b) { t = Neg(a)  b = Exp(t) }",
    ),
    "a loop, called twice": (
        "(float[2,3] x) => (float[2,3] y) { n = Constant<value_int = 3>() m = own.f(x, n) y = own.f(m, n) }",
        """f (a, n) => (b) { one = Constant<value_int = 1>()  on = Cast<to = 9>(one)  b = Loop (n, on, a) <
            body = l (int64 i, bool k, float[2,3] s) => (bool k2, float[2,3] s2)
            { k2 = Identity(k)  h = Sin(s)  s2 = Add(h, s) }> }""",
    ),
    "an operator of another domain": (
        "(float[2,3] x) => (float[2,3] y) { y = own.f(x) }",
        "f (a) => (b) { b = com.microsoft.Gelu(a) }",
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_functions_of_all_shapes_are_inlined(case: str) -> None:
    source = model(*SHAPES[case])
    made = compiled(source, {"x": X, "c": np.array(True)} if "bool c)" in SHAPES[case][0] else {"x": X})
    assert not made.model.functions
    assert made.report["functions"] == {"inlined": len(source.functions)}


@pytest.mark.parametrize("calls", ["y, z = own.f(x)", "y = own.f(x)"])
def test_results_that_are_arguments_or_equal_keep_their_names(calls: str) -> None:
    """ONNX Runtime refuses such functions; a model in memory may hold them."""
    outputs = "float[2,3] y, float[2,3] z" if "z" in calls else "float[2,3] y"
    loaded = ir.from_proto(
        model(f"(float[2,3] x) => ({outputs}) {{ {calls} }}", "f (a) => (a, a) { b = Neg(a) }")
    )
    interface = verify.interface_of(loaded)
    assert functions.inline_all(loaded) == (1, {})
    verify.verify(loaded, interface=interface)
    assert all((value == X).all() for value in oracle.run(loaded, {"x": X}).values())


def test_operator_sets_are_imported_in_one_order() -> None:
    """That of a set of names is another one in each process, and artifacts are reproducible to the byte."""
    domains = [f"d{number}" for number in range(8)]
    calls = "  ".join(
        f"{new} = {domain}.op({old})"
        for domain, old, new in zip(domains, "abcdefgh", "bcdefghi", strict=True)
    )
    source = ir.from_proto(model("(float x) => (float y) { y = own.f(x) }", f"f (a) => (i) {{ {calls} }}"))
    for domain in reversed(domains):
        source.functions["own", "f", ""].opset_imports[domain] = 1
    functions.inline_all(source)
    assert [domain for domain in source.opset_imports if domain in domains] == domains


def test_what_is_in_a_function_is_fused() -> None:
    body = """norm (a, gamma, beta) => (b) { m = ReduceMean(a, last)  d = Sub(a, m)  s = Mul(d, d)
        v = ReduceMean(s, last)  w = Add(v, eps)  r = Sqrt(w)  n = Div(d, r)  h = Mul(n, gamma)
        b = Add(h, beta) }"""
    body = body.replace(
        "{", "{ last = Constant<value_ints = [-1]>()  eps = Constant<value_float = 1e-5>()", 1
    )
    main = """(float[n,64] x) => (float[n,64] y) <float[64] gamma, float[64] beta>
        { h = own.norm(x, gamma, beta)  y = own.norm(h, gamma, beta) }"""
    source = model(main, body)
    for name in ("gamma", "beta"):
        weights = RNG.standard_normal(64).astype(np.float32)
        source.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    made = compiled(source, {"x": RNG.standard_normal((5, 64)).astype(np.float32)})
    assert [entry["matched"].get("layer_norm") for entry in made.report["passes"]].count(2) == 1


def test_pairs_in_functions_are_hidden_from_the_runtime() -> None:
    """It inlines them when it loads the model, and would take the scales of rows for those of columns."""
    body = """f (x, step, at, w, scale) => (y) {
        q = QuantizeLinear(x, step, at)  d = DequantizeLinear(q, step, at)
        v = DequantizeLinear<axis = 0>(w, scale)  y = MatMul(d, v) }"""
    source = model("(float[n,16] x) => (float[n,16] y) { y = own.f(x, step, at, w, scale) }", body)
    constants: dict[str, Any] = {
        "step": np.float32(0.03),
        "at": np.uint8(120),
        "w": RNG.integers(-127, 128, (16, 16)).astype(np.int8),
        "scale": RNG.uniform(0.0005, 0.0015, 16).astype(np.float32),
    }
    for name, array in constants.items():
        source.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    x = RNG.standard_normal((5, 16)).astype(np.float32)
    made = compiled(source, {"x": x})
    codes = np.clip(np.rint(x / np.float32(0.03)) + 120, 0, 255) - 120
    weight = constants["w"] * constants["scale"].astype(float)[:, None]
    np.testing.assert_allclose(made.run({"x": x})["y"], codes * np.float32(0.03) @ weight, atol=1e-4)


@pytest.mark.parametrize(("opset", "theirs"), [(21, 17), (13, 20), (12, 15)])
def test_functions_of_another_operator_set(opset: int, theirs: int) -> None:
    """Raised to one set, or of operators that are the same in both: the Softmax keeps the model at 12."""
    operator = "Softmax<axis = 0>" if opset == 12 else "Neg"
    main = f"(float[2,3] x) => (float[2,3] y) {{ t = own.f(x)  y = {operator}(t) }}"
    made = compiled(model(main, "f (a) => (b) { b = Sin(a) }", opset=opset, theirs=theirs), {"x": X})
    assert not made.model.functions
    assert made.model.opset_imports[""] == (12 if opset == 12 else newest_opset())


def test_a_function_of_operators_that_mean_something_else_stays() -> None:
    source = model(
        "(float[2,3] x) => (float[2,3] y) { t = own.f(x)  u = own.h(t)  y = Neg(u) }",
        "f (a) => (b) { t = own.h(a)  b = Softmax<axis = 0>(t) }",
        "h (a) => (b) { b = Sin(a) }",
        theirs=11,
    )
    made = compiled(source, {"x": X})
    kept = made.report["functions"]["kept"]
    assert set(kept) == {"own::f", "own::h"} and "Softmax" in kept["own::f"] and "own::f" in kept["own::h"]


def test_an_operator_of_the_runtime_wins_over_a_function() -> None:
    source = model(
        "(float[2,3] x) => (float[2,3] y) { y = com.microsoft.Gelu(x) }", "Gelu (a) => (b) { b = Neg(a) }"
    )
    source.functions[0].domain = "com.microsoft"
    made = compiled(source, {"x": X})
    assert [node.op_type for node in made.model.graph] == ["Gelu"]
