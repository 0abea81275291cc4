"""BERT-base (random weights): how long compiling takes beside torch.onnx.export, and its peak memory.

    python benchmarks/bert_base.py

Each figure is a process of its own: wall seconds without imports, and the peak of resident memory.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time

WAYS = ("torch.onnx.export", "capture to legalize", "everything with --no-gate")


def main() -> None:
    """Runs every way in turn, twice."""
    for way in WAYS * 2:
        subprocess.run([sys.executable, __file__, way], check=True, stderr=subprocess.DEVNULL)


def measure(way: str) -> None:
    """Compiles one way and prints its figures."""
    import torch
    from transformers import BertConfig, BertModel

    import optc
    from optc import registry
    from optc.capture import capture
    from optc.passbase import Context
    from optc.pipeline import Pipeline

    module = BertModel(BertConfig()).eval()
    ids = torch.randint(0, 30000, (2, 128))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq", max=512)
    dims = {name: {0: batch, 1: seq} for name in inputs}
    started = time.perf_counter()
    if way == WAYS[0]:
        torch.onnx.export(module, (), kwargs=inputs, dynamic_shapes=dims, dynamo=True, verbose=False)
    elif way == WAYS[1]:
        captured = capture(module, inputs, dynamic_shapes=dims)
        ctx = Context(target=registry.find_target("cpu"))
        Pipeline.parse("simplify, fuse, legalize").run(captured.model, ctx)
    else:
        with tempfile.TemporaryDirectory() as folder:
            optc.compile(module, inputs, dynamic_shapes=dims, gate=False, output=f"{folder}/bert")
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(f"{way:28s} {seconds:6.1f} s   peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
