"""The contestants of `benchmarks/cpu.py`: what each makes of a model, and how it is run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import zoo

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Task:
    """A model at a batch size, and the folder for what is made of it."""

    key: str
    model: zoo.Model
    batch: int
    folder: Path

    @property
    def exported(self) -> Path:
        """The plain export that the ONNX contestants start from."""
        return self.folder / "plain.onnx"

    @property
    def inputs(self) -> Path:
        """The inputs of all contestants."""
        return self.folder / "inputs.npz"


@dataclass(frozen=True)
class Contestant:
    """How a contestant is built and run.

    Attributes:
        program: as `optc.bench.worker` takes it.
        build: writes what it needs into the task's folder, and returns what runs it: the program's source.
        needs: the package without which it does not take part.
        compiles: it needs a C++ compiler.
        transformers_only: it does not know other models.
        as_it_is: nothing is built: it reads what is there.
    """

    name: str
    program: str
    build: Callable[[Task], str]
    needs: str | None = None
    compiles: bool = False
    transformers_only: bool = False
    as_it_is: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def absent(self, task: Task) -> str | None:
        """Why it does not take part in a task."""
        if self.needs is not None and importlib.util.find_spec(self.needs) is None:
            return f"not installed: {self.needs} (pip install -r benchmarks/requirements.txt)"
        if self.compiles and not any(map(shutil.which, ("g++", "clang++", os.environ.get("CXX", "c++")))):
            return "no C++ compiler (install g++)"
        if self.transformers_only and task.model.transformer is None:
            return "for transformers only"
        return None


def factory(task: Task) -> str:
    """The module itself."""
    make = task.model.factory
    return f"{make.__code__.co_filename}:{make.__name__}"


def plain(task: Task) -> str:
    """torch.onnx.export, with shapes fixed: what every ONNX contestant is given."""
    import numpy as np
    import torch

    module, inputs = task.model.factory()
    program = torch.onnx.export(module, (), kwargs=inputs, dynamo=True, verbose=False)
    assert program is not None
    program.save(task.exported, external_data=True)
    np.savez(task.inputs, **{name: tensor.numpy() for name, tensor in inputs.items()})
    return str(task.exported)


def onnxscript(task: Task) -> str:
    """onnxscript's fusions for ONNX Runtime."""
    import onnx_ir as ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model, _ = optimize_for_ort(ir.load(task.exported))
    path = task.folder / "onnxscript.onnx"
    ir.save(model, path, external_data=f"{path.name}.data")
    return str(path)


def transformers_optimizer(task: Task) -> str:
    """ONNX Runtime's own optimizer for transformers, told the model's type, heads and width."""
    from onnxruntime.transformers import optimizer

    known = task.model.transformer
    assert known is not None
    kind, heads, width = known
    model = optimizer.optimize_model(str(task.exported), kind, num_heads=heads, hidden_size=width)
    path = task.folder / "transformers.onnx"
    model.save_model_to_file(str(path), use_external_data_format=True)
    return str(path)


def onnxsim(task: Task) -> str:
    """onnxsim's simplification."""
    import onnx
    from onnxsim import simplify

    model, checked = simplify(onnx.load(task.exported))
    if not checked:
        raise RuntimeError("its own check found other results")
    path = task.folder / "onnxsim.onnx"
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return str(path)


def optc(task: Task, level: int = 1) -> str:
    """optc from the module, with the gate measuring on this machine."""
    import optc as compiler

    module, inputs = task.model.factory()
    path = task.folder / f"optc-O{level}"
    compiler.compile(module, inputs, level=level).save(path)
    return str(path)


def exported(task: Task) -> str:
    """The plain export, which something else than ONNX Runtime reads."""
    return str(task.exported)


def openvino_program(source: str, inputs: str, threads: int) -> Callable[[], Callable[[], Any]]:
    """OpenVINO on the CPU in float32, tuned for latency."""
    import numpy as np
    import openvino

    with np.load(inputs) as arrays:
        feeds = dict(arrays.items())

    def load() -> Callable[[], Any]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(source, "CPU", settings).create_infer_request()
        return lambda: list(request.infer(feeds, share_inputs=True).values())

    return load


REFERENCE = "ONNX Runtime"
EAGER = "PyTorch eager"

_ONNX, _TORCH = "optc.bench.programs:onnx_program", "optc.bench.programs:torch_program"

CONTESTANTS = [
    Contestant(EAGER, _TORCH, factory, as_it_is=True),
    Contestant(
        "Inductor (freezing)",
        _TORCH,
        factory,
        as_it_is=True,
        compiles=True,
        arguments={"mode": "inductor"},
        environment={"TORCHINDUCTOR_FREEZING": "1"},
    ),
    Contestant(REFERENCE, _ONNX, plain),
    Contestant("onnxscript optimize_for_ort", _ONNX, onnxscript, needs="onnxscript"),
    Contestant(
        "ORT transformers optimizer", _ONNX, transformers_optimizer, needs="sympy", transformers_only=True
    ),
    Contestant("onnxsim", _ONNX, onnxsim, needs="onnxsim"),
    Contestant("OpenVINO", "peers:openvino_program", exported, needs="openvino", as_it_is=True),
    Contestant("optc -O1", "optc.bench.programs:artifact_program", partial(optc, level=1)),
]
