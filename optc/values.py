"""Values between torch and numpy, without copies where memory can be shared."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    import torch


def is_torch(value: Any) -> bool:
    """Whether a value is, or holds, a torch tensor; does not import torch to find out."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(value, list | tuple):
        return any(is_torch(item) for item in value)
    return isinstance(value, torch.Tensor)


def to_numpy(value: Any) -> Any:
    """Torch tensors as arrays that share their memory; everything else as it is."""
    if isinstance(value, np.ndarray) or value is None or not is_torch(value):
        return value
    if isinstance(value, list | tuple):
        return [to_numpy(item) for item in value]
    return _array(value)


def to_torch(value: Any) -> Any:
    """Arrays as torch tensors that share their memory; sequences element by element; None as it is."""
    import torch

    if isinstance(value, list | tuple):
        return [to_torch(item) for item in value]
    if not isinstance(value, np.ndarray) or value.dtype.kind in "OSU":
        return value
    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    if value.dtype.name in _TORCH_FLOATS:
        return torch.from_numpy(value.view(np.uint8)).view(getattr(torch, value.dtype.name))
    return torch.from_numpy(value if value.flags.writeable else value.copy())


def _array(tensor: torch.Tensor) -> Any:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    name = str(tensor.dtype).removeprefix("torch.")
    if name in _TORCH_FLOATS:
        return tensor.contiguous().view(torch.uint8).numpy().view(getattr(ml_dtypes, name))
    return tensor.resolve_conj().resolve_neg().numpy()


_TORCH_FLOATS = frozenset({"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
