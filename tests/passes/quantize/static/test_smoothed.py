"""Static int8 of transformers is smoothed first, and mean errors go into the biases behind products too."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from nets import CPU

from optc import oracle
from optc.passbase import Context, Feeds, Report
from optc.pipeline import Pipeline

RNG = np.random.default_rng(0)
GAMMA = np.where(np.arange(64) % 16 == 3, 30.0, 1.0).astype(np.float32)
WEIGHTS = {
    "gamma": GAMMA,
    "beta": RNG.standard_normal(64).astype(np.float32),
    "w": RNG.standard_normal((64, 48)).astype(np.float32),
    "b": RNG.standard_normal(48).astype(np.float32),
    "v": RNG.standard_normal((48, 32)).astype(np.float32),
    "c": RNG.standard_normal(32).astype(np.float32),
    "few": RNG.standard_normal((3, 32)).astype(np.float32),
    "first": RNG.standard_normal((64, 32)).astype(np.float32),
}
BODY = """{ n = LayerNormalization(x, gamma, beta)  p = MatMul(n, w)  q = Add(p, b)  r = Gelu(q)
              s = MatMul(r, v)  y = Add(s, c) }"""
SAMPLES = [{"x": RNG.standard_normal((1, 9, 64)).astype(np.float32)} for _ in range(12)]


def model(body: str = BODY, opset: int = 21) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["": {opset}]> g (float[1,S,64] x) => (float[1,S,32] y) {body}'
    proto = onnx.parser.parse_model(text)
    for name, array in WEIGHTS.items():
        if name in re.findall(r"\w+", body):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_node"
    return ir.from_proto(proto)


def run(options: str, made: ir.Model | None = None) -> tuple[ir.Model, Report, float]:
    """The quantized model, its report and its error on samples that calibration does not see."""
    made = model() if made is None else made
    seen: Sequence[Feeds] = SAMPLES[:8]
    ctx = Context(target=CPU, calibration=seen, examples=seen[:1], threads=1)
    text = f"quantize{{scheme=int8-static{options}}}"
    done, [record] = Pipeline.parse(text).run(made.clone(), ctx)
    return done, record.report, oracle.Oracle(model(), SAMPLES[8:]).compare(done).rel_l2


def test_large_channels_behind_a_norm_are_folded_into_it() -> None:
    done, report, error = run("")
    _, _, plain = run(", smooth=none")
    assert error < 0.5 * plain and error < 0.02
    assert report.matched["int8 site"] == 2 and report.matched["input smoothed"] >= 1
    ops = [node.op_type for node in done.graph]
    assert "Mul" not in ops and ops[0] == "LayerNormalization"


def test_an_explicit_exponent_is_taken() -> None:
    _, report, _ = run(", smooth=0.5")
    assert set(report.detail["smoothing"]["alphas"].values()) == {0.5}


def test_mean_errors_go_into_the_biases_behind_products() -> None:
    done, report, error = run(", smooth=none")
    _, without, plain = run(", smooth=none, bias-correct=false")
    assert report.matched["bias corrected"] == 2 and "bias corrected" not in without.matched
    assert len(done.graph) == len(run(", smooth=none, bias-correct=false")[0].graph)
    assert error < plain


def test_a_second_run_and_sums_of_few_terms_change_nothing() -> None:
    done, _, _ = run("")
    _, report, _ = run("", done)
    assert not report.changed
    few = "{ i = Constant<value_ints=[1, 2, 3]>()  n = Gather<axis=2>(x, i)  y = MatMul(n, few) }"
    _, report, _ = run("", model(few))
    assert not report.changed
    assert [skip.reason for skip in report.skipped] == [
        "left in float: it sums up 3 terms only: nothing to gain"
    ]


def test_an_old_operator_set_is_left_as_it_is() -> None:
    old = model("{ m = Mul(x, gamma)  y = MatMul(m, first) }", opset=12)
    done, report, _ = run("", old)
    assert not report.changed and "need 13" in report.skipped[-1].reason
    assert sorted(done.graph.initializers) == ["first", "gamma"]
