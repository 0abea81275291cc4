"""Modules as people write them, exported by both exporters of torch: recognised, and computing the same."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from attention_text import fuse
from attention_zoo import ZOO, Specimen

from optc import oracle, rewrite
from optc.passbase import Context
from optc.passes.simplify import Simplify
from optc.pipeline import run_pass
from optc.targets.cpu import TARGET
from optc.trail import Trail
from optc.validate import Validator

# A few that between them take most ways through the patterns; the others take more than a second each.
QUICK = ("sdpa_bool_mask", "scale_split", "bmm_masked_4d", "grouped", "packed_unbind", "windows")
NOT_SCRIPTED = {"grouped_sdpa": "the TorchScript exporter has no grouped attention"}


def cases(quick: tuple[str, ...]) -> list[object]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]


def _module(specimen: Specimen) -> torch.nn.Module:
    torch.manual_seed(0)
    module = specimen.module().eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter *= 3 if parameter.ndim > 1 else 1  # so that the attention is far from uniform
    return module


def _check(specimen: Specimen, model: ir.Model) -> None:
    """What torch computes is not asked: its exporter does not keep rows without any key in all cases."""
    exported = ir.from_proto(ir.to_proto(model))
    inputs = specimen.inputs(2 * specimen.unit)
    feeds = {str(v.name): each.numpy() for v, each in zip(model.graph.inputs, inputs, strict=False)}
    trail = Trail(watchers=(Validator([feeds]),))
    run_pass(Simplify(), model, Context(target=TARGET, trail=trail))
    trail.starting("fuse", model, exact=True)
    done = fuse(model, trail)
    kinds = [rewrite.kind(node) for node in model.graph if node.domain == rewrite.DOMAIN]
    assert kinds == [specimen.kind], done.skipped
    assert not fuse(model).matched
    for batch in (1, 2, 3):
        inputs = specimen.inputs(batch * specimen.unit)
        feeds = {value.name: each.numpy() for value, each in zip(model.graph.inputs, inputs, strict=False)}
        (expected,), (actual,) = (oracle.run(each, feeds).values() for each in (exported, model))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", cases(QUICK))
def test_exported_by_dynamo(name: str) -> None:
    """Static lengths, a dynamic batch; batches of 1, 2 and 3 of which the last has rows without any key."""
    specimen = ZOO[name]
    module, inputs = _module(specimen), specimen.inputs(2 * specimen.unit)
    batch = specimen.unit * torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        module, inputs, dynamo=True, verbose=False, dynamic_shapes=tuple({0: batch} for _ in inputs)
    )
    _check(specimen, program.model)


@pytest.mark.parametrize("name", cases(("sdpa", "masked_fill_lowest")))
def test_exported_by_torchscript(name: str) -> None:
    """The older exporter computes shapes and scales in the graph."""
    if name in NOT_SCRIPTED:
        pytest.skip(NOT_SCRIPTED[name])
    specimen, file = ZOO[name], io.BytesIO()
    module, inputs = _module(specimen), specimen.inputs(2 * specimen.unit)
    names = [f"input{i}" for i in range(len(inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            file,
            dynamo=False,
            opset_version=17,
            input_names=names,
            dynamic_axes={each: {0: "batch"} for each in names},
        )
    _check(specimen, ir.from_proto(onnx.load_from_string(file.getvalue())))
