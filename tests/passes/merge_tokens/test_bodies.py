"""The bodies of token reductions are valid ONNX in every form they may take, also in rare ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from optc import rewrite
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
