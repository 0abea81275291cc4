"""Under which name an executable is kept on disk: everything that decides on it, hashed."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import fx

from .graph import Graph

FORMAT = 1


class Unkeyed(Exception):
    """The graph holds something that has no name of its own; it is compiled anew in every process."""


def key_of(graph: Graph, arguments: Sequence[Any], options: str) -> str:
    """A name that two processes agree on exactly when they would compile the same.

    It covers the graph, the types and sizes of its inputs, the contents of weights, options, the modes of
    torch that change what operators do, the versions of all tools, and the CPU.

    Raises:
        Unkeyed: see there.
    """
    digest = hashlib.sha256(f"{FORMAT} {options} {_modes()} {_tools()}".encode())
    _add_module(digest, graph.module)
    baked, static = set(graph.baked), set(graph.static)
    for index, value in enumerate(arguments):
        axes = graph.dynamic.get(index, [])
        text = _described(value, axes) if isinstance(value, torch.Tensor) else repr(value)
        text += f" {value.item()!r}" if index in baked and isinstance(value, torch.Tensor) else ""
        kinds = f"{index in static} {index in graph.sizes} {index in graph.numbers}"
        digest.update(f"{index} {text} {kinds};".encode())
    frozen = [arguments[i] for i in graph.static] + graph.attributes
    with ThreadPoolExecutor() as pool:
        for part in pool.map(_contents, frozen):
            digest.update(part)
    return digest.hexdigest()


def _add_module(digest: Any, module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        target = node.target
        if node.op in ("call_module", "get_attr"):
            _add_attribute(digest, module, str(target))
        elif node.op == "call_function":
            target = _function_name(target)
        args = _text((node.args, node.kwargs))
        digest.update(f"{node.name}={node.op} {target} {args}\n".encode())


def _add_attribute(digest: Any, module: fx.GraphModule, path: str) -> None:
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    if isinstance(value, fx.GraphModule):
        _add_module(digest, value)
    elif isinstance(value, torch.Tensor):
        digest.update(_contents(value))
    else:
        raise Unkeyed(f"{path} is a {type(value).__name__}")


def _function_name(target: Any) -> str:
    if isinstance(target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator)):
        return str(target)
    name = getattr(target, "__qualname__", None)
    if name is None or "<" in name:  # made by a function, as max_pool2d is, which still has a name
        name = getattr(target, "__name__", None)
        if name is None or getattr(sys.modules.get(target.__module__), name, None) is not target:
            raise Unkeyed(f"{target} has no name")
    owner = getattr(target, "__module__", None) or type(getattr(target, "__self__", None)).__name__
    return f"{owner}.{name}"


def _text(value: Any) -> str:
    """Arguments of a node; nodes by name, and nothing whose text differs from process to process."""
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if value is None or value is Ellipsis or type(value) in _PLAIN:
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key!r}:{_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, slice):
        return f"slice{_text((value.start, value.stop, value.step))}"
    raise Unkeyed(f"an argument is a {type(value).__name__}")


_PLAIN = frozenset(
    {bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size}
)


def _described(tensor: torch.Tensor, dynamic: Sequence[int]) -> str:
    kind = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()} {tensor.device} {tensor.requires_grad}"
    return f"{kind} {list(dynamic)}"


def _contents(tensor: torch.Tensor) -> bytes:
    digest = hashlib.sha256(_described(tensor, ()).encode())
    if tensor.numel():
        flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()


def _modes() -> str:
    device = "cpu"
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return f"{autocast} {torch.get_default_dtype()} {torch.is_grad_enabled()}"


@cache
def _tools() -> str:
    """Versions, and the state of our own files, which change between versions for those who work on them."""
    from optc.manifest import tool_versions

    root = Path(__file__).resolve().parent.parent
    folders = (root, *(link.resolve() for link in sorted(root.iterdir()) if link.is_symlink()))
    files = [text for folder in folders for text in sorted(_sources(os.fspath(folder)))]
    return f"{tool_versions()} {platform.python_version()} {_cpu()} {files}"


def _sources(folder: str, inside: str = "") -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _sources(entry.path, f"{inside}{entry.name}/")
        elif entry.name.endswith(".py"):
            found = entry.stat()
            yield f"{inside}{entry.name} {found.st_size} {found.st_mtime_ns}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    facts = dict(line.split(":", 1) for line in lines if line.startswith(("model name", "flags", "Features")))
    return f"{platform.machine()} {sorted(facts.items())}"
