"""What a graph writes, shares and draws, found by running it on tensors without data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from .because import Unsupported, reason_of

Geometry = tuple[Any, ...]


class Analysis(fx.Interpreter):
    """One run on fake tensors of the arguments' sizes; those that are ``known`` keep their contents.

    Attributes:
        values: per node, what it gave.
        storages: per node that gave a tensor, the storage that its elements are in.
        geometries: per such node, size, strides and offset when it was made.
        written: storages that were changed in place.
        writers: nodes that changed something in place.
        trains: a batch norm in training mode, or None.
        random: the first node that draws random numbers, or None.
        narrowest: the float type with the fewest digits that any operator gave, or None.

    Raises:
        Unsupported: an operator does not run without data.
    """

    def __init__(self, module: fx.GraphModule, arguments: Sequence[Any], known: Collection[int] = ()) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}
        self.storages: dict[fx.Node, int] = {}
        self.geometries: dict[fx.Node, Geometry] = {}
        self.writers: set[fx.Node] = set()
        self.random: fx.Node | None = None
        self._watch = _Watch()
        mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
        fakes = [_fake(mode, value) for value in arguments]
        for index in known:
            if isinstance(fake := fakes[index], FakeTensor):
                fake.constant = arguments[index]  # so that item() gives it
        try:
            with mode, self._watch:
                self.run(*fakes, enable_io_processing=False)
        except Exception as error:  # whatever an operator raises that does not run without data
            if not self._watch.calls_operator:
                raise
            raise Unsupported(reason_of(error)) from error
        self.written = self._watch.written
        self.trains = self._watch.trains
        self.narrowest = self._watch.narrowest

    def run_node(self, n: fx.Node) -> Any:
        """Runs it, and remembers what came out."""
        self._watch.wrote = False
        value = super().run_node(n)
        self.values[n] = value
        if self._watch.wrote:
            self.writers.add(n)
        if self._watch.draws and self.random is None:
            self.random = n
        if isinstance(value, torch.Tensor):
            self.storages[n] = storage_of(value)
            self.geometries[n] = geometry_of(value)
        return value


def storage_of(tensor: torch.Tensor) -> int:
    """Equal for tensors that share memory, while they live."""
    return int(_unwrapped(tensor).untyped_storage()._cdata)


def geometry_of(tensor: torch.Tensor) -> Geometry:
    """Where in the storage the elements are."""
    inner = _unwrapped(tensor)
    return tuple(inner.shape), inner.stride(), inner.storage_offset()


def _unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """What has the memory of a tensor inside of torch.vmap."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator below autograd and autocast, where schemas say what is written."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls_operator = False
        self.wrote = False
        self.written: set[int] = set()
        self.draws = False
        self.trains: str | None = None
        self.narrowest: torch.dtype | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.calls_operator = True  # and still is when it raised
        result = func(*args, **kwargs)
        self.calls_operator = False
        if not isinstance(func, torch._ops.OpOverload):
            return result  # a higher-order operator: what it calls comes by here as well
        self._note_writes(func, args, kwargs)
        self.draws = self.draws or _draws(func, args, kwargs)
        for tensor in _pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype in _DIGITS:
                least = min(self.narrowest or tensor.dtype, tensor.dtype, key=_DIGITS.__getitem__)
                self.narrowest = least
        return result

    def _note_writes(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for place, argument in enumerate(func._schema.arguments):
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            updates = argument.name in ("running_mean", "running_var") and _is_training(func, args)
            self.trains = self.trains or (str(func) if updates and value is not None else None)
            # Batch norms of old update their statistics without saying so in their schema.
            if updates or (argument.alias_info is not None and argument.alias_info.is_write):
                tensors = (t for t in _pytree.tree_leaves(value) if isinstance(t, torch.Tensor))
                self.written.update(storage_of(tensor) for tensor in tensors)
                self.wrote = True


_DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def _is_training(func: Any, args: tuple[Any, ...]) -> bool:
    names = [argument.name for argument in func._schema.arguments]
    place = names.index("training") if "training" in names else len(args)
    return place < len(args) and bool(args[place])


def _draws(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operator draws random numbers with these arguments."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    given = {
        argument.name: args[place] if place < len(args) else kwargs.get(argument.name, argument.default_value)
        for place, argument in enumerate(func._schema.arguments)
    }
    if not all(given.get(name, True) for name in ("train", "training")):
        return False  # an inactive dropout
    chances = [given[name] for name in ("dropout_p", "dropout", "p") if name in given]
    return not chances or any(chances)


def _fake(mode: FakeTensorMode, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.STATIC] * value.dim())
    return mode.from_tensor(value, symbolic_context=context)
