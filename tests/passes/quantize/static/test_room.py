"""Room in fixed ranges for samples that are larger than all that calibration saw."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from nets import conv, parse

from optc import oracle, registry
from optc.passbase import Context, Feeds
from optc.pipeline import Pipeline


def model() -> ir.Model:
    body = """(float[N,3,8,8] x) => (float[N,8,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, v)  r = Relu(a)  y = Conv<pads=[1,1,1,1]>(r, w) }"""
    return parse(body, v=conv(8, 3), w=conv(8, 8, seed=1))


def images(sizes: list[float], seed: int) -> list[Feeds]:
    rng = np.random.default_rng(seed)
    return [{"x": (size * rng.standard_normal((1, 3, 8, 8))).astype(np.float32)} for size in sizes]


def quantized(plain: ir.Model, samples: list[Feeds], max_error: float | None) -> tuple[ir.Model, float]:
    ctx = Context(registry.find_target("cpu"), calibration=samples, max_error=max_error)
    made, [record] = Pipeline.parse("quantize{scheme=int8-static}").run(plain.clone(), ctx)
    assert record.report.matched["int8 site"] == 2
    return made, record.report.detail.get("room in ranges", 1.0)


def test_images_that_differ_in_size_get_more_room_where_the_error_allows_it() -> None:
    """Larger ones come to less harm; without a limit nothing is expected, and steps stay fine."""
    plain = model()
    samples = images([0.6] * 10 + [1.0, 1.8], seed=1)
    larger = images([2.4, 2.8, 3.2], seed=2)
    (narrow, one), (wide, more) = (quantized(plain, samples, limit) for limit in (None, 0.5))
    assert one == 1.0 < more
    cut_off, within = (oracle.Oracle(plain, larger).compare(made).rel_l2 for made in (narrow, wide))
    assert within < 0.6 * cut_off


def test_images_of_one_size_keep_their_steps() -> None:
    _, room = quantized(model(), images([1.0] * 40, seed=1), 0.5)
    assert room == 1.0


@pytest.mark.parametrize(("limit", "sites", "told"), [(0.025, 0, True), (0.04, 1, False), (0.05, 2, False)])
def test_images_of_which_none_is_large_keep_others_within_the_limit(
    limit: float, sites: int, told: bool
) -> None:
    """With no room for an unlucky draw one site was quantized within 0.025, and others lay at 0.026."""
    plain = model()
    seen = images([0.7 + 0.05 * i for i in range(11)], seed=1)
    others = images(list(np.exp(0.35 * np.random.default_rng(0).standard_normal(60))), seed=2)
    ctx = Context(registry.find_target("cpu"), calibration=seen, max_error=limit)
    made, [record] = Pipeline.parse("quantize{scheme=int8-static}").run(plain.clone(), ctx)
    assert record.report.matched.get("int8 site", 0) == sites
    assert ("max-error" in [skip.node for skip in record.report.skipped]) == told
    found = oracle.Oracle(plain, others).compare(made)
    assert isinstance(found, oracle.Difference) and found.rel_l2 <= limit
