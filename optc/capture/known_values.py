"""Values that follow from constants alone, kept beside the trace, where a model asks for them.

Tensors under torch.export have no contents, so that ``int(self.stride)`` of a buffer, or a size computed
with ``torch.div(length, 2)``, looks like a decision on data. What no input has a part in is the same at every
call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakIdKeyDictionary

# A mask over a model's longest sequence is a few million elements.
_LARGEST = 1 << 22
_ANSWERS = frozenset({"item", "tolist", "__int__", "__index__", "__bool__", "__float__", "equal", "allclose"})
_UNKNOWN = re.compile(r"rand|normal|bernoulli|multinomial|poisson|dropout|uniform|exponential|empty")
_IN_PLACE = re.compile(
    r"\w+[^_]_|__(set|setitem|i(add|sub|mul|truediv|floordiv|mod|pow|and|or|xor|[lr]shift))__"
)
_TAKES_SIZES = re.compile(
    r"view|reshape|expand|repeat|tile|(new_)?(zeros|ones|full|empty)|arange|eye|as_strided|narrow|split|chunk"
    r"|unfold|unflatten|pad|roll|broadcast_to|interpolate"
)
_MAKES = re.compile(r"zeros|ones|full|empty|arange|eye")


@contextmanager
def known_values(module: torch.nn.Module) -> Iterator[None]:
    """Within it, a trace of ``module`` answers questions about values that no input has a part in."""
    mode = _KnownValues(module)
    hook = module.register_forward_pre_hook(mode.know_buffers)
    try:
        with mode:
            yield
    finally:
        hook.remove()


class _KnownValues(TorchFunctionMode):
    """Computes every function of known tensors a second time, on their contents."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._buffers = {
            name: buffer.detach().clone()
            for name, buffer in module.named_buffers()
            if buffer.numel() <= _LARGEST
        }
        # A traced tensor and its contents; where traced tensors are views, so are the contents.
        self._contents: MutableMapping[Any, Any] = WeakIdKeyDictionary()

    def know_buffers(self, module: torch.nn.Module, inputs: Any) -> None:
        """Before the forward pass, when the buffers are what the trace made of them."""
        for name, traced in module.named_buffers():
            if name in self._buffers:
                self._contents[traced] = self._buffers[name]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        known = not _UNKNOWN.search(name) and all(
            self._is_known(leaf) for leaf in _pytree.tree_leaves((args, kwargs))
        )
        if known and name in _ANSWERS:
            return self._of_contents(func, args, kwargs)
        result = func(*self._with_sizes(name, args), **kwargs)
        if known and all(_is_small(leaf) for leaf in _pytree.tree_leaves(result)):
            self._keep(result, self._of_contents(func, args, kwargs))
        elif _writes(name, kwargs):
            self._forget([*args[:1], kwargs.get("out")])
        return result

    def _is_known(self, leaf: Any) -> bool:
        if isinstance(leaf, torch.Tensor):
            return leaf in self._contents
        return not isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool))

    def _of_contents(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        args, kwargs = _pytree.tree_map_only(torch.Tensor, self._contents.__getitem__, (args, kwargs))
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return func(*args, **kwargs)

    def _keep(self, result: Any, contents: Any) -> None:
        pairs = zip(_pytree.tree_leaves(result), _pytree.tree_leaves(contents), strict=True)
        for traced, content in pairs:
            if isinstance(traced, torch.Tensor) and isinstance(content, torch.Tensor):
                self._contents[traced] = content

    def _forget(self, written: list[Any]) -> None:
        """What has been written to from the outside, and all that shares its memory."""
        for tensor in written:
            if isinstance(tensor, torch.Tensor) and tensor in self._contents:
                memory = self._contents[tensor].untyped_storage().data_ptr()
                shared = [t for t, c in self._contents.items() if c.untyped_storage().data_ptr() == memory]
                for each in shared:
                    del self._contents[each]

    def _with_sizes(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Numbers in place of known tensors, where torch takes sizes and would read them from the tensor."""
        if name == "__getitem__":
            return (args[0], _pytree.tree_map(self._bounds, args[1]))
        if not _TAKES_SIZES.fullmatch(name):
            return args
        first = () if _MAKES.fullmatch(name) else args[:1]
        return (*first, *_pytree.tree_map(self._number, args[len(first) :]))

    def _bounds(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return index
        return slice(*(self._number(bound) for bound in (index.start, index.stop, index.step)))

    def _number(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() or value.is_floating_point():
            return value
        return self._of_contents(torch.Tensor.item, (value,), {}) if value in self._contents else value


def _is_small(leaf: Any) -> bool:
    if not isinstance(leaf, torch.Tensor):
        return True
    size = leaf.numel()
    return isinstance(size, int) and size <= _LARGEST


def _writes(name: str, kwargs: Any) -> bool:
    return bool(_IN_PLACE.fullmatch(name)) or "out" in kwargs
