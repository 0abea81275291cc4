"""The front door of capture: which kind of source it is, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from optc import npz
from optc.errors import UserError

from .captured import Captured
from .compiled import is_compiled, load_compiled
from .feeds import checked, positional
from .signature import Signature

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def capture(
    source: Any,
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
    inputs: Mapping[str, Any] | str | Path | None = None,
    examples: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Captured:
    """Brings a model into the IR; the source is never changed, and its weights are shared, not copied.

    Args:
        source: nn.Module, fx.GraphModule, ExportedProgram, onnx.ModelProto, onnx_ir.Model, or a text or path:
            ``model.onnx``, ``program.pt2``, the directory of an artifact, ``package.module:factory``,
            ``path/file.py:factory``. A factory is executed: it is a callable without arguments that returns
            (module, example_inputs) or (module, example_inputs, dynamic_shapes).
        example_inputs: what the module is called with: a tensor, a tuple, or a dict by parameter name. Needed
            for a module, optional for an ONNX model, not wanted elsewhere.
        dynamic_shapes: of a module, as torch.export takes it.
        inputs: example feeds by graph input name, or an .npz file of them; they replace the example inputs
            as the sample that later stages run.
        examples: whether an ONNX model that comes without any gets random ones.
        seed: for those.
        progress: wraps an iterable to show its progress.

    Raises:
        UserError: the source is missing, or is not what it claims; the inputs do not fit.
        CaptureError: the model cannot be captured; says where in its code, and what to do.
    """
    sources: Iterable[Any] = [source] if progress is None else progress([source], "capture")
    sample = examples and inputs is None
    [captured] = [_dispatch(item, example_inputs, dynamic_shapes, seed, sample) for item in sources]
    if inputs is not None:
        given = npz.load(Path(inputs)) if isinstance(inputs, (str, Path)) else dict(inputs)
        captured.examples[:1] = [checked(captured.model, given)]
        captured.examples_note = "given"
    return captured


def _dispatch(source: Any, example_inputs: Any, dynamic_shapes: Any, seed: int, sample: bool) -> Captured:
    if isinstance(source, onnx.ModelProto):
        from .onnx_memory import from_proto

        return _onnx(
            from_proto(source),
            source.graph.name or "ONNX model",
            example_inputs,
            dynamic_shapes,
            seed,
            sample,
        )
    if isinstance(source, ir.Model):
        from .onnx_memory import from_ir

        return _onnx(
            from_ir(source), source.graph.name or "ONNX model", example_inputs, dynamic_shapes, seed, sample
        )
    if isinstance(source, (str, Path)):
        return _text(str(source), example_inputs, dynamic_shapes, seed, sample)
    return _torch(source, example_inputs, dynamic_shapes)


def _text(text: str, example_inputs: Any, dynamic_shapes: Any, seed: int, sample: bool) -> Captured:
    path = Path(text)
    if path.suffix == ".onnx":
        from .onnx_file import load_onnx

        return _onnx(load_onnx(path), text, example_inputs, dynamic_shapes, seed, sample)
    if path.suffix == ".pt2":
        from .pt2_file import load_pt2
        from .torch_model import capture_program

        _unwanted(example_inputs, dynamic_shapes, text)
        return capture_program(load_pt2(path), text)
    if ":" in text and not path.exists():
        from .factory import call_factory
        from .torch_model import capture_module

        _unwanted(example_inputs, dynamic_shapes, text)
        made = call_factory(text)
        captured = capture_module(
            made.module, made.example_inputs, made.dynamic_shapes, note="from the factory"
        )
        captured.source = text
        return captured
    if is_compiled(path):
        model, signature = load_compiled(path)
        captured = _onnx(model, text, example_inputs, dynamic_shapes, seed, sample)
        captured.signature = signature
        return captured
    hint = "give model.onnx, program.pt2, a compiled DIR, package.module:factory or path/file.py:factory"
    if not text:
        what = "it is empty"
    elif path.is_dir():
        what = "it is a directory without a manifest of ours"
    elif path.exists():
        what = "the file has no known ending"
    else:
        what = "there is no such file, and it names no factory"
    raise UserError(f"cannot tell what the source is: {what}", where=text, hint=hint)


def _torch(source: Any, example_inputs: Any, dynamic_shapes: Any) -> Captured:
    import torch

    from .torch_model import capture_module, capture_program

    if isinstance(source, torch.export.ExportedProgram):
        _unwanted(example_inputs, dynamic_shapes, "ExportedProgram")
        return capture_program(source, "ExportedProgram")
    if isinstance(source, torch.jit.ScriptModule):
        hint = "pass the original nn.Module"
        raise UserError("a TorchScript module cannot be captured", where=type(source).__name__, hint=hint)
    if isinstance(source, torch.nn.Module):
        return capture_module(source, example_inputs, dynamic_shapes)
    hint = "pass an nn.Module, ExportedProgram, onnx.ModelProto, onnx_ir.Model, a path, or module:factory"
    raise UserError(f"{type(source).__name__} objects cannot be captured", where="source", hint=hint)


def _onnx(
    model: ir.Model, source: str, example_inputs: Any, dynamic_shapes: Any, seed: int, sample: bool
) -> Captured:
    if dynamic_shapes is not None:
        hint = "an ONNX model has its dynamic dims in its inputs"
        raise UserError("dynamic_shapes is for PyTorch modules", where=source, hint=hint)
    inputs = model.graph.inputs
    optional = [v.name or "" for v in inputs if isinstance(v.type, ir.OptionalType)]
    names, results = ([v.name or "" for v in values] for values in (inputs, model.graph.outputs))
    defaults = [name for name in names if name in model.graph.initializers]
    signature = Signature.of_names(names, results, optional, defaults)
    if example_inputs is not None:
        feeds = checked(model, positional(names, example_inputs))
        return Captured(model, source, [feeds], "given", signature)
    if not sample:
        return Captured(model, source, [], "", signature)
    from .samples import random_feeds

    examples, note = random_feeds(model, seed)
    return Captured(model, source, examples, note, signature)


def _unwanted(example_inputs: Any, dynamic_shapes: Any, source: str) -> None:
    if example_inputs is not None or dynamic_shapes is not None:
        what = "example_inputs and dynamic_shapes are for modules; this source brings its own"
        raise UserError(what, where=source, hint="leave them out, or pass `inputs`, feeds by input name")
