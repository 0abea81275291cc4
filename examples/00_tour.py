"""The whole system in one file: capture, passes, fused functions, lowering, oracle, gate, artifact.

python examples/00_tour.py
"""

from __future__ import annotations

import tempfile

import torch

import optc
from optc import gate, listing, oracle, registry, rewrite
from optc.capture import capture
from optc.passbase import Context
from optc.pipeline import Pipeline


class Attention(torch.nn.Module):
    """One attention layer with a residual and a norm, as a person would write it."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (torch.nn.Linear(width, width) for _ in range(4))
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, width] to the same."""
        batch, tokens, width = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, self.heads, self.size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = torch.softmax(q @ k.transpose(-1, -2) / self.size**0.5, dim=-1)
        mixed = (scores @ v).transpose(1, 2).reshape(batch, tokens, width)
        return self.norm(x + self.out(mixed))


torch.manual_seed(0)
module, x = Attention().eval(), torch.randn(2, 10, 64)
cpu = registry.find_target("cpu")

# 1. Capture: the module becomes an onnx_ir.Model with named dimensions; weights are shared, not copied.
dims = {"x": {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}}
captured = capture(module, (x,), dynamic_shapes=dims)
print(f"captured: {len(captured.model.graph)} nodes, inputs {[str(v) for v in captured.model.graph.inputs]}")

# 2. The oracle runs the captured model once; every later state of the model is held against it.
judge = oracle.Oracle(captured.model, captured.examples)

# 3. A pipeline is text, and text is a pipeline. Each pass reports what it did and what it left alone.
pipeline = Pipeline.parse("simplify, fuse")
ctx = Context(target=cpu, examples=captured.examples)
model, records = pipeline.run(captured.model, ctx)
for record in records:
    print(f"{record.step.name}: {dict(record.report.matched)}")
print(listing.listing(model))

# 4. A fused operator is a call of a local function with a plain body: any ONNX Runtime can still execute it.
print("kinds:", sorted({kind for node in model.graph if (kind := rewrite.kind(node))}))
print("after fuse:", judge.compare(model))

# 5. The target says what each kind may become; the gate (not run here) measures which of it pays.
print("families:", gate.families_of(model, cpu))

# 6. Legalize lowers functions to kernels of the installed runtime, or inlines them.
model, [record] = Pipeline.parse("legalize").run(model, ctx)
print("lowered:", record.report.detail["lowered"])
print("after legalize:", judge.compare(model))

# 7. All of it in one call, with the gate off; the artifact is called as the module was.
artifact = optc.compile(module, (x,), dynamic_shapes=dims, gate=False)
with torch.no_grad():
    print("largest difference to the module:", float((artifact(x) - module(x)).abs().max()))
with tempfile.TemporaryDirectory() as folder:
    artifact.save(f"{folder}/attention")
    print("again from disk:", tuple(optc.load(f"{folder}/attention")(x).shape))
