"""The bodies of token reductions are valid ONNX in every form they may take, also in rare ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle, rewrite
from optc.passes.merge_tokens import _prune, _tome, _transform
from optc.passes.merge_tokens._prune import PruneForm
from optc.passes.merge_tokens._tome import TomeForm
from optc.passes.merge_tokens._transform import TransformForm

BOTH = (False, True)
_ATTRIBUTES = ("scale", "temperature", "lead", "keep", *_tome.STATIC)
SHARES = ((True, None), (False, None), (False, 0.7))  # counted, share


def selections() -> Iterator[PruneForm]:
    for score, (mask, padded), lead, shared in product(
        ("received", "class"), (("none", False), ("added", True), ("bool", True)), BOTH, SHARES
    ):
        yield PruneForm(score, mask, padded, lead, *shared)


def bodies(method: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if method == "prune":
        for form in selections():
            yield _prune.body(form), _prune.OUTPUTS
    elif method == "transform":
        for select, axis, sized in product(selections(), (1, 2), BOTH):
            yield _transform.body(TransformForm(select, axis, sized or select.padded)), _transform.OUTPUTS
    else:
        for axis, sized, padded, ordered, lead, shared in product((1, 2), BOTH, BOTH, BOTH, BOTH, SHARES):
            if sized or not padded:
                yield _tome.body(TomeForm(axis, sized, padded, ordered, lead, *shared)), _tome.OUTPUTS


@pytest.mark.parametrize("method", ["tome", "prune", "transform"])
def test_every_form_parses_and_names_nothing_twice(method: str) -> None:
    for text, outputs in bodies(method):
        function = rewrite.parse_function(method, text, 23, _ATTRIBUTES)
        assert [value.name for value in function.outputs] == list(outputs)


SIGNATURE = """(float[2,6,4] x, float[2,3,6,5] q, float[2,3,6,5] k, float[2,1,1,6] mask, float[2,6,1] flags)
    => (float[2,3,4] y, int64[2,3,1] index, int64[2,6,1] place)"""


@pytest.mark.parametrize("score", ["received", "class"])
def test_pruning_keeps_the_tokens_that_content_attends_to_most(score: _prune.Score) -> None:
    """Against numpy, with padding: what padded tokens pay does not count, what the class token pays does."""
    text = _prune.body(PruneForm(score, "added", padded=True, lead=True, counted=True))
    text = text.replace("@lead", "[1]").replace("@keep", "[2]").replace("@scale", "0.5")
    head = '<ir_version: 10, opset_import: ["": 20]>\ng '
    model = ir.from_onnx_text(head + SIGNATURE + text[text.index("{") :])
    rng = np.random.default_rng(1)
    x, q, k = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 4), (2, 3, 6, 5), (2, 3, 6, 5))
    )
    flags = np.ones((2, 6, 1), np.float32)
    flags[1, 4:] = 0
    q[1, :, 4:] = 9 * k[1, :, 3:4]  # padded tokens attend to the last one with content
    mask = np.where(flags[..., 0] > 0, 0.0, -1e9).astype(np.float32)[:, None, None]
    found = oracle.run(model, {"x": x, "q": q, "k": k, "mask": mask, "flags": flags})

    scores = np.exp(0.5 * q @ k.swapaxes(2, 3) + mask)
    probabilities = scores / scores.sum(-1, keepdims=True)
    paid = probabilities[:, :, :1] if score == "class" else probabilities * flags[:, None]
    order = 1 + np.argsort(-paid.sum((1, 2))[:, 1:], axis=1)[:, :2]
    assert set(order[1]) == {1, 2}  # not the one that padded tokens attend to
    kept = np.concatenate([np.zeros((2, 1), int), np.sort(order, axis=1)], axis=1)
    assert found["index"][..., 0].tolist() == kept.tolist()
    np.testing.assert_array_equal(found["y"], np.take_along_axis(x, kept[..., None], axis=1))
    assert found["place"][..., 0].tolist() == [
        [max(sum(i <= t for i in row) - 1, 0) for t in range(6)] for row in kept.tolist()
    ]
