"""Batch norms fold into constant weights of a single-reader producer, to float tolerance, or say why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simplifying import Outcome, parse, simplify

RNG = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def norm(channels: int) -> dict[str, np.ndarray]:
    return {
        "s": floats(channels),
        "o": floats(channels),
        "m": floats(channels),
        "v": floats(channels) ** 2 + 0.1,
    }


def folded(body: str, x: tuple[int, ...], **constants: Any) -> Outcome:
    return simplify(parse(body, constants=constants), feeds=[{"x": floats(*x)}], rtol=1e-4)


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv(groups: int, bias: str) -> None:
    body = f"""(float[1,4,5,5] x) => (float[1,8,5,5] y) {{
        c = Conv<group={groups},pads=[1,1,1,1]>(x, w{bias})
        y = BatchNormalization<epsilon=0.01>(c, s, o, m, v) }}"""
    given = {"w": floats(8, 4 // groups, 3, 3), **({"b": floats(8)} if bias else {})}
    outcome = folded(body, (1, 4, 5, 5), **given, **norm(8))
    assert [node.op_type for node in outcome.model.graph] == ["Conv"]
    assert "w" in outcome.model.graph.initializers  # under its own name


@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose(groups: int) -> None:
    body = f"""(float[1,4,5,5] x) => (float[1,6,7,7] y) {{
        c = ConvTranspose<group={groups}>(x, w) y = BatchNormalization(c, s, o, m, v) }}"""
    outcome = folded(body, (1, 4, 5, 5), w=floats(4, 6 // groups, 3, 3), **norm(6))
    assert [node.op_type for node in outcome.model.graph] == ["ConvTranspose"]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_gemm(transposed: int, bias: str) -> None:
    body = f"""(float[3,4] x) => (float[3,6] y) {{
        c = Gemm<transB={transposed},alpha=0.5,beta=2.0>(x, w{bias})
        y = BatchNormalization(c, s, o, m, v) }}"""
    given = {"w": floats(6, 4) if transposed else floats(4, 6), **({"b": floats(1, 6)} if bias else {})}
    assert [node.op_type for node in folded(body, (3, 4), **given, **norm(6)).model.graph] == ["Gemm"]


@pytest.mark.parametrize(
    "add", ["c = MatMul(x, w)", "p = MatMul(x, w) c = Add(p, b)", "p = MatMul(x, w) c = Add(b, p)"]
)
def test_product_of_matrices(add: str) -> None:
    body = f"(float[3,4] x) => (float[3,6] y) {{ {add} y = BatchNormalization(c, s, o, m, v) }}"
    given = {"w": floats(4, 6), **({"b": floats(6)} if "b" in add else {})}
    assert [node.op_type for node in folded(body, (3, 4), **given, **norm(6)).model.graph] == ["Gemm"]


CONV = """(float[1,2,4,4] x) => (float[1,2,4,4] y{out}) {{
    c = Conv(x, w) {more} y{outs} = BatchNormalization{attrs}(c, s, o, m, v) }}"""


def refused(*, out: str = "", more: str = "", outs: str = "", attrs: str = "", **changed: Any) -> str:
    body = CONV.format(out=out, more=more, outs=outs, attrs=attrs)
    outcome = folded(body, (1, 2, 4, 4), **({"w": floats(2, 2, 1, 1), **norm(2)} | changed))
    assert "BatchNormalization" in outcome.formula
    return "; ".join(outcome.reasons)


def test_another_reader() -> None:
    assert "the output of the Conv has another reader" in refused(
        out=", float[1,2,4,4] z", more="z = Relu(c)"
    )


def test_an_output_of_the_graph() -> None:
    assert "has another reader" in refused(out=", float[1,2,4,4] c")


def test_training() -> None:
    assert "running statistics are read" in refused(
        out=", float[2] rm, float[2] rv", outs=", rm, rv", attrs="<training_mode=1>"
    )
    assert "it is in training mode" in refused(outs=", rm, rv", attrs="<training_mode=1>")


def test_statistics_that_are_not_finite() -> None:
    assert "no finite constants" in refused(v=np.float32([np.inf, np.nan]))


def test_weights_that_can_be_overridden() -> None:
    body = """(float[1,2,4,4] x, float[2,2,1,1] w) => (float[1,2,4,4] y) {
        c = Conv(x, w) y = BatchNormalization(c, s, o, m, v) }"""
    outcome = simplify(parse(body, constants=norm(2)))
    assert outcome.reasons == ["batch norm not folded: the weights of the convolution are no constants"]


def test_channels_that_are_no_columns() -> None:
    body = "(float[2,3,4] x) => (float[2,3,6] y) { c = MatMul(x, w) y = BatchNormalization(c, s, o, m, v) }"
    outcome = folded(body, (2, 3, 4), w=floats(4, 6), **norm(3))
    assert outcome.reasons == ["batch norm not folded: its channels are not the columns of the product"]


def test_weights_with_another_reader_are_not_changed_for_it() -> None:
    body = """(float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z) {
        c = Conv(x, w) y = BatchNormalization(c, s, o, m, v) z = Conv(x, w) }"""
    outcome = folded(body, (1, 2, 4, 4), w=floats(2, 2, 1, 1), **norm(2))
    assert [node.op_type for node in outcome.model.graph] == ["Conv", "Conv"]


def test_half_precision_stays() -> None:
    """Weights that were rounded twice would differ by more than the tolerance of an exact pass."""
    half = {name: array.astype(np.float16) for name, array in {"w": floats(2, 2, 1, 1), **norm(2)}.items()}
    nodes = "c = Conv(x, w) y = BatchNormalization(c, s, o, m, v)"
    body = f"(float16[1,2,4,4] x) => (float16[1,2,4,4] y) {{ {nodes} }}"
    assert "BatchNormalization" in simplify(parse(body, constants=half), feeds=[]).formula
