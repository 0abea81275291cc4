"""The programs that a worker of `optc bench` runs: an ONNX file, an artifact, a torch module.

Each function imports what it needs and reads the inputs; what it returns loads the program, which is what is
timed as loading. Nothing is imported before it is needed: a session without optc or torch in its process uses
the memory of the runtime alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optc.errors import UserError

if TYPE_CHECKING:
    import torch

Call = Callable[[], Any]
Loader = Callable[[], Call]


def onnx_program(source: str, inputs: str, threads: int) -> Loader:
    """ONNX Runtime with its default options, in the given number of threads."""
    import onnxruntime as ort

    feeds = read(inputs)

    def load() -> Call:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return partial(session.run, None, pick(feeds, [value.name for value in session.get_inputs()], source))

    return load


def artifact_program(source: str, inputs: str, threads: int) -> Loader:
    """An artifact as `optc run` executes it."""
    import optc

    feeds, open_artifact = read(inputs), optc.load

    def load() -> Call:
        made = open_artifact(source, threads=threads)
        return partial(made.run, pick(feeds, made.signature.input_names, source))

    return load


def torch_program(source: str, threads: int, inputs: str | None = None, mode: str = "eager") -> Loader:
    """A factory's module or an exported program, in eager mode or under torch.compile."""
    import torch as pytorch

    pytorch.set_num_threads(threads)

    def load() -> Call:
        module, call = module_and_call(source)
        arguments = call if inputs is None else filled(call, read(inputs), source)
        run = module if mode == "eager" else pytorch.compile(module, backend=mode)

        def answer() -> Any:
            with pytorch.inference_mode():
                return run(*arguments.args, **arguments.kwargs)

        return answer

    return load


def example_program(source: str, inputs: str) -> Loader:
    """Writes the example inputs of a factory, by name, for all contestants to use."""

    def load() -> Call:
        _, call = module_and_call(source)
        arrays: dict[str, Any] = {
            name: to_numpy(tensor, name, source) for name, tensor in named_tensors(call).items()
        }
        return lambda: np.savez(inputs, **arrays)

    return load


def module_and_call(source: str) -> tuple[Any, Any]:
    """The module in evaluation mode, and the `Call` of its example inputs."""
    from optc.capture.arguments import call_of

    if source.endswith(".pt2"):
        from optc.capture.pt2_file import load_pt2

        program = load_pt2(Path(source))
        args, kwargs = program.example_inputs or ((), {})
        module = program.module()
        return module, call_of(module, (*args, dict(kwargs)) if kwargs else tuple(args))
    from optc.capture.factory import call_factory

    made = call_factory(source)
    return made.module.eval(), call_of(made.module, made.example_inputs)


def read(inputs: str) -> dict[str, np.ndarray]:
    """The arrays of the file that all contestants share."""
    with np.load(inputs, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def pick(feeds: Mapping[str, np.ndarray], names: Iterable[str], source: str) -> dict[str, np.ndarray]:
    """The feeds, if they are inputs of this contestant."""
    known = list(names)
    for name in feeds:
        if name not in known:
            hint = f"its inputs are {', '.join(known)}; all contestants get the same inputs"
            raise UserError(f"it has no input named {name!r}", where=source, hint=hint)
    return dict(feeds)


def named_tensors(call: Any) -> dict[str, torch.Tensor]:
    """The tensors among the arguments, by the names that capture gives to the inputs of a graph."""
    from torch import Tensor

    return {name: leaf for name, leaf in _leaves(call) if isinstance(leaf, Tensor)}


def filled(call: Any, feeds: Mapping[str, np.ndarray], source: str) -> Any:
    """The call with its tensors taken from ``feeds``.

    Raises:
        UserError: a tensor has no feed, or a feed is no input.
    """
    from dataclasses import replace

    import torch as pytorch
    from torch.utils import _pytree

    known = named_tensors(call)
    given = pick(feeds, known, source)
    for name in known:
        if name not in given:
            raise UserError("no value is given for an input", where=f"input {name} of {source}")
    new = {id(tensor): pytorch.from_numpy(given[name]) for name, tensor in known.items()}
    args, kwargs = _pytree.tree_map(lambda leaf: new.get(id(leaf), leaf), (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs)


def _leaves(call: Any) -> Iterable[tuple[str, Any]]:
    from inspect import Parameter

    from torch.utils import _pytree

    from optc.capture.treespec import join

    for name, value in call.bound.items():
        variadic = call.forward.parameters[name].kind is Parameter.VAR_KEYWORD
        for path, leaf in _pytree.tree_leaves_with_path(value):
            keys = [_key(part) for part in path]
            yield (join(str(keys[0]), tuple(keys[1:])) if variadic else join(name, tuple(keys))), leaf


def _key(part: Any) -> Any:
    """The key of a part of a pytree path: of a dict, a sequence, or an attribute."""
    return next(getattr(part, field) for field in ("key", "idx", "name") if hasattr(part, field))


def to_numpy(tensor: torch.Tensor, name: str, source: str) -> np.ndarray:
    """An array that an ``.npz`` file can hold."""
    try:
        return tensor.detach().cpu().numpy()
    except TypeError:
        hint = "give a factory whose example inputs have a type that numpy knows"
        raise UserError(
            f"inputs of type {tensor.dtype} cannot be handed to other processes",
            where=f"input {name} of {source}",
            hint=hint,
        ) from None
