"""The choice of sites in small models in which it is known what each site does to the error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle, registry
from optc.passbase import Context, Feeds
from optc.pipeline import Pipeline, Record

RNG = np.random.default_rng(0)
WIDTH = 64
HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
SIGNATURE = f"g (float[n,{WIDTH}] x) => (float[n,{WIDTH}] y)"
DYNAMIC = "quantize{scheme=int8-dynamic, smooth=none, bias-correct=false}"


def parse(text: str, **weights: np.ndarray) -> ir.Model:
    declared = ", ".join(f"float[{', '.join(map(str, w.shape))}] {name}" for name, w in weights.items())
    model = ir.from_onnx_text(HEADER + text.replace("{", f"<{declared}> {{", 1))
    for name, array in weights.items():
        value = next(v for node in model.graph for v in node.inputs if v is not None and v.name == name)
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)
    for node in model.graph:
        node.name = f"{node.outputs[0].name}_node"
    return model


def weight(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def chain() -> ir.Model:
    """Three products; the input of the second has one channel 3000 times as large as the others."""
    body = "{ a = MatMul(x, u)  s = Mul(a, big)  b = MatMul(s, v)  t = Relu(b)  y = MatMul(t, w) }"
    large = np.ones(WIDTH, np.float32)
    large[3] = 3000.0
    v = weight(WIDTH, WIDTH)
    v[3] /= 3000.0
    return parse(f"{SIGNATURE} {body}", u=weight(WIDTH, WIDTH), v=v, w=weight(WIDTH, WIDTH), big=large)


def samples(count: int, seed: int = 1) -> list[Feeds]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((8, WIDTH)).astype(np.float32)} for _ in range(count)]


def run(model: ir.Model, pipeline: str, *, calibration: int = 8, **limits: Any) -> tuple[ir.Model, Record]:
    ctx = Context(
        target=registry.find_target("cpu"),
        examples=samples(1, seed=9),
        calibration=samples(calibration) or None,
        **limits,
    )
    made, [record] = Pipeline.parse(pipeline).run(model, ctx)
    return made, record


def float_products(model: ir.Model) -> list[str]:
    return [str(node.name) for node in model.graph if node.op_type in ("MatMul", "Gemm", "Conv")]


def error(before: ir.Model, after: ir.Model) -> float:
    found = oracle.Oracle(before, samples(20, seed=5)).compare(after)
    assert isinstance(found, oracle.Difference)
    return found.rel_l2


@pytest.mark.parametrize("calibration", [0, 8])
def test_the_site_that_ruins_the_model_stays_in_float_and_the_others_do_not(calibration: int) -> None:
    plain = chain()
    made, record = run(plain.clone(), DYNAMIC, calibration=calibration, max_error=0.05)
    assert float_products(made) == ["b_node"]
    assert record.report.matched["int8 dynamic site"] == 2
    [skip] = record.report.skipped
    assert skip.node == "b_node" and skip.reason.startswith("left in float: its error alone, ")
    assert error(plain, made) <= 0.05
    told = record.report.detail["choice"]
    assert told["error of all sites"] > 0.05 >= told["error"] > 0
    assert max(told["sensitivity"], key=told["sensitivity"].get) == "b_node"


def test_without_a_limit_everything_is_quantized() -> None:
    made, record = run(chain(), DYNAMIC)
    assert float_products(made) == [] and "choice" not in record.report.detail


def test_what_fits_is_quantized_without_looking_at_sites() -> None:
    made, record = run(chain(), DYNAMIC, max_error=2.0)
    assert float_products(made) == [] and "choice" not in record.report.detail


def test_where_nothing_fits_the_model_is_as_it_was() -> None:
    plain = chain()
    made, record = run(plain.clone(), DYNAMIC, max_error=1e-6)
    assert float_products(made) == ["a_node", "b_node", "y_node"] and not record.report.changed
    assert {skip.node for skip in record.report.skipped} == {"a_node", "b_node", "y_node"}
    assert [str(n) for n in made.graph] == [str(n) for n in plain.graph]


def test_the_metric_decides_where_there_is_one() -> None:
    plain = chain()
    expected = [oracle.run(plain, feeds)["y"] for feeds in samples(10, seed=3)]

    def agreement(run: Any) -> float:
        found = [run(feeds)["y"] for feeds in samples(10, seed=3)]
        same = [(a.argmax(-1) == b.argmax(-1)).mean() for a, b in zip(expected, found, strict=True)]
        return float(np.mean(same))

    made, record = run(plain.clone(), DYNAMIC, metric=agreement, max_drop=0.06)
    assert float_products(made) == ["b_node"]
    assert "does not fit into the metric" in record.report.skipped[0].reason


def test_a_second_run_changes_nothing_more() -> None:
    made, _ = run(chain(), DYNAMIC, max_error=0.05)
    before = [str(node) for node in made.graph]
    again, record = run(made, DYNAMIC, max_error=0.05)
    assert not record.report.changed and [str(node) for node in again.graph] == before


def test_weights_in_few_bits_are_chosen_by_site_too() -> None:
    body = "{ a = MatMul(x, u)  t = Tanh(a)  b = MatMul(t, v)  y = Add(a, b) }"
    wide = weight(WIDTH, WIDTH)
    plain = parse(f"{SIGNATURE} {body}", u=wide, v=weight(WIDTH, WIDTH) / 50)
    made, record = run(plain.clone(), "quantize{scheme=int4-weight}", max_error=0.02)
    assert record.report.matched == {"weight in 4 bits": 1}
    assert [skip.node for skip in record.report.skipped] == ["a_node"]
    assert error(plain, made) <= 0.02


def test_static_int8_is_kept_where_its_error_is_small() -> None:
    """The second convolution meets one value far out of the range of the others."""
    text = (
        "g (float[n,3,8,8] x) => (float[n,8,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, u)  r = Relu(a)"
        "  s = Mul(r, big)  b = Conv<pads=[1,1,1,1]>(s, v)  t = Relu(b)  y = Conv<pads=[1,1,1,1]>(t, w) }"
    )
    large = np.ones((1, 8, 1, 1), np.float32)
    large[0, 2] = 2000.0
    v = weight(8, 8, 3, 3) / 3
    v[:, 2] /= 2000.0
    plain = parse(text, u=weight(8, 3, 3, 3), v=v, w=weight(8, 8, 3, 3), big=large)
    rng = np.random.default_rng(2)
    images: list[Feeds] = [{"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(12)]
    ctx = Context(target=registry.find_target("cpu"), calibration=images[:8], max_error=0.08)
    made, [record] = Pipeline.parse("quantize").run(plain.clone(), ctx)
    assert record.report.matched["int8 site"] == 2
    assert [skip.node for skip in record.report.skipped] == ["b_node"]
    found = oracle.Oracle(plain, images[8:]).compare(made)
    assert isinstance(found, oracle.Difference) and found.rel_l2 <= 0.08


def test_the_same_is_chosen_every_time() -> None:
    texts = [str(run(chain(), DYNAMIC, max_error=0.05)[0].graph) for _ in range(2)]
    assert texts[0] == texts[1]


def test_errors_that_are_not_numbers_leave_their_sites_in_float() -> None:
    """The product that overflows in int8 scales is left, and the other is not."""
    body = "{ a = MatMul(x, u)  h = MatMul(x, v)  t = Tanh(h)  y = Add(a, t) }"
    plain = parse(f"{SIGNATURE} {body}", u=weight(WIDTH, WIDTH), v=weight(WIDTH, WIDTH))
    feeds = samples(1)[0]
    feeds["x"][0, 0] = np.inf
    ctx = Context(target=registry.find_target("cpu"), examples=[feeds], max_error=0.05)
    made, [record] = Pipeline.parse(DYNAMIC).run(plain.clone(), ctx)
    assert not record.report.changed and len(float_products(made)) == 2


def test_a_table_of_embeddings_is_a_site_too() -> None:
    """Rounding the table is what would exceed the limit; products that add little stay quantized."""
    table = RNG.standard_normal((2000, WIDTH)).astype(np.float32)
    table[:, 0] *= 200.0  # the other columns share the scale of this one
    first = weight(WIDTH, WIDTH)
    first[0] = 0.0
    body = "{ a = Gather(t, i)  p = MatMul(a, u)  b = Relu(p)  y = MatMul(b, v) }"
    plain = parse(f"g (int64[n] i) => (float[n,{WIDTH}] y) {body}", t=table, u=first, v=weight(WIDTH, WIDTH))
    ids: list[Feeds] = [{"i": np.arange(k, 2000, 40)} for k in range(8)]
    ctx = Context(target=registry.find_target("cpu"), calibration=ids, max_error=0.03)
    made, [record] = Pipeline.parse("quantize{scheme=int8-weight}").run(plain.clone(), ctx)
    assert record.report.matched == {"weight in 8 bits": 2}
    assert [skip.node for skip in record.report.skipped] == ["t"]
    found = oracle.Oracle(plain, ids).compare(made)
    assert isinstance(found, oracle.Difference) and found.rel_l2 <= 0.03


def test_another_scheme_behind_one_that_nothing_fits_into_measures_for_itself() -> None:
    """Both have the same sites, and the errors of one say nothing about the other."""
    ctx = Context(registry.find_target("cpu"), calibration=samples(8), max_error=0.004)
    plain = chain()
    _, [alone] = Pipeline.parse("quantize{scheme=int8-weight}").run(plain.clone(), ctx)
    pipeline = Pipeline.parse("quantize{scheme=int4-weight}, quantize{scheme=int8-weight}")
    _, [first, second] = pipeline.run(plain.clone(), ctx)
    assert not first.report.changed
    assert second.report.detail["choice"] == alone.report.detail["choice"]
    assert second.report.detail["choice"] != first.report.detail["choice"]


def test_a_second_run_with_less_does_not_measure_the_sites_again() -> None:
    shown: list[str] = []
    judged: list[object] = []

    def progress(items: Any, what: str) -> Any:
        shown.append(what)
        return items

    def metric(run: object) -> float:
        judged.append(run)
        return 1.0

    plain, [step] = chain(), Pipeline.parse(DYNAMIC).passes
    ctx = Context(registry.find_target("cpu"), calibration=samples(8), max_error=0.05, progress=progress)
    step.run(plain.clone(), ctx)
    assert shown.count("sensitivity of sites") == 1
    again, alone = plain.clone(), plain.clone()
    step.run(again, replace(ctx, max_error=0.03, metric=metric))
    assert shown.count("sensitivity of sites") == 1
    tried = len(judged)
    step.run(alone, Context(ctx.target, calibration=samples(8), max_error=0.03, metric=metric))
    assert len(judged) == 2 * tried + 1  # by itself it also tries all sites together
    assert [str(node) for node in again.graph] == [str(node) for node in alone.graph]
