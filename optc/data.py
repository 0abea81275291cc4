"""Reading what the user hands over: input arrays, calibration sets, callables and dimension sizes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import npz
from optc.errors import UserError
from optc.passbase import Feeds
from optc.spool import Spool
from optc.user_code import user_code


def load_feeds(path: Path) -> Feeds:
    """The arrays of an ``.npz`` file by name; nothing in it is unpickled."""
    return dict(npz.load(path))


def save_outputs(path: Path, outputs: Mapping[str, Any]) -> None:
    """Writes named outputs to an ``.npz`` file, whole or not at all."""
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray):
            raise UserError(
                f"the output {name!r} is not an array and does not fit into an .npz file",
                hint="use optc.load(DIR).run(...) in Python",
            )
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise UserError(
            "the outputs cannot be written there", where=str(path), hint="name a file in an existing folder"
        )
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **outputs)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"the outputs cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        with contextlib.suppress(OSError):  # a read-only file system says that even of what is not there
            temporary.unlink(missing_ok=True)


def load_callable(text: str, what: str) -> Callable[..., Any]:
    """The function that ``package.module:name`` or ``path/file.py:name`` names."""
    from optc.capture.factory import resolve

    return resolve(text, what)


def load_calibration(text: str) -> Any:
    """What ``--calib`` names: the arrays of a file, an iterator over a folder's files, or a function."""
    path = Path(text)
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if not files:
            raise UserError("the calibration folder holds no .npz files", where=text)
        return (load_feeds(file) for file in files)
    if path.suffix == ".npz" or path.exists():
        return load_feeds(path)
    if ":" in text:
        return load_callable(text, "calibration function")
    raise UserError(
        "the calibration data does not exist",
        where=text,
        hint="give X.npz, a folder of .npz files, or module:function",
    )


def calibration_samples(
    calibration: Any, example: Feeds | None, *, any_batch: bool = False, finite: bool = True
) -> Sequence[Feeds]:
    """Calibration data as feeds of the captured batch size, in memory that does not grow with their number.

    Args:
        calibration: a dict of arrays whose axis 0 is the batch axis, an iterable of such dicts, a callable
            that returns either, or None. A dict is sliced without copies; an iterable is gone through once.
        example: the captured example, whose batch size the slices get; None leaves the data as it is.
        any_batch: the model takes other batch sizes, so data that does not fill a batch is a sample too.
        finite: NaN and infinities are mistakes; -inf is taken in masks, where nothing is above zero.
    """
    if calibration is None:
        return []
    if callable(calibration):
        with user_code("the calibration function"):
            calibration = calibration()
    samples: Sequence[Feeds]
    if isinstance(calibration, Mapping):
        samples = _slices(_arrays(calibration, finite), example, any_batch)
    else:
        items = (_arrays(item, finite, at) for at, item in enumerate(_each(calibration)))
        samples = Spool(feeds for arrays in items for feeds in _slices(arrays, example, any_batch))
    if not samples:
        raise UserError("the calibration data is empty", hint="give at least one sample")
    return samples


def _each(calibration: Any) -> Iterator[Any]:
    """What the user's iterable gives; a mistake in it is the user's."""
    with user_code("going through the calibration data"):
        yield from calibration


def described(calibration: Sequence[Feeds], examples_note: str) -> str:
    """What errors are taken on, for people: calibration samples, or the examples and where they come from."""
    if calibration:
        return f"{len(calibration)} calibration sample{'s' * (len(calibration) != 1)}"
    return f"the example inputs ({examples_note})" if examples_note else "no inputs"


def takes_any_batch(model: ir.Model) -> bool:
    """Whether axis 0 of every input that has axes is a dynamic dimension, and the same one."""
    firsts = [value.shape[0] for value in model.graph.inputs if value.shape is not None and len(value.shape)]
    named = {dim.value for dim in firsts if isinstance(dim, ir.SymbolicDim)}
    return len(named) == 1 and None not in named and all(isinstance(dim, ir.SymbolicDim) for dim in firsts)


def asks_for_nan(model: ir.Model) -> bool:
    """Whether the model itself looks for NaN or infinities, so that its inputs may hold some."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    return any(node.op_type in ("IsNaN", "IsInf") for body in bodies for node in body.all_nodes())


def _arrays(item: Any, finite: bool, at: int | None = None) -> Feeds:
    """The arrays of a dict: all data, or item number ``at`` of it."""
    if not isinstance(item, Mapping):
        raise UserError(
            f"calibration data must be dicts of arrays, not {type(item).__name__}",
            hint="yield {input name: array}",
        )
    arrays = {name: np.asarray(value) for name, value in item.items()}
    for name, array in arrays.items() if finite else ():
        if (found := _not_finite(array)) is not None:
            row, what = found
            where = f"sample {row}" if at is None else f"item {at}, sample {row} in it"
            raise UserError(
                f"the calibration data of {name!r} holds {what}",
                where=f"{where} (counted from 0)",
                hint="correct that sample or leave it out: no range or error taken on it would mean anything",
            )
    return arrays


def _not_finite(array: np.ndarray) -> tuple[int, str] | None:
    """The first row with NaN or an infinity that is no mask's, and which of them."""
    if array.dtype.kind in "biuOSUM" or not array.size:
        return None
    rows = array if array.ndim else array[None]
    for at, row in enumerate(rows):
        if np.isfinite(row).all():
            continue
        if np.isnan(row).any():
            return at, "NaN"
        if row.dtype.kind == "c" or np.isposinf(row).any() or (row > 0).any():
            return at, "an infinity"
    return None


def _slices(arrays: Feeds, example: Feeds | None, any_batch: bool) -> Sequence[Feeds]:
    if example is None:
        return [arrays]
    if set(arrays) != set(example):
        raise UserError(
            f"the calibration data has arrays for {', '.join(sorted(arrays)) or 'nothing'}",
            hint=f"give one array for each input of the model: {', '.join(sorted(example))}",
        )
    sizes = {len(a) for a in arrays.values() if a.ndim}
    if not sizes and arrays:
        return [arrays]
    if len(sizes) != 1:
        raise UserError(f"the calibration arrays have different numbers of samples: {sorted(sizes)}")
    for name, array in arrays.items():
        rank = getattr(example[name], "ndim", array.ndim)
        if array.ndim != rank:
            what = f"the calibration data of {name!r} has {array.ndim} dimensions, and the input {rank}"
            raise UserError(
                what, hint="one array per input, of the input's rank, with the samples along axis 0"
            )
    batched = [e for e in example.values() if getattr(e, "ndim", 0)]
    batch = len(batched[0]) if batched else 1
    total = sizes.pop()
    if total < batch and any_batch and total:
        return [arrays]
    if total < batch:
        hint = "give more, or make the batch dimension dynamic"
        raise UserError(f"{total} calibration samples do not fill one batch of {batch}", hint=hint)
    starts = range(0, total - batch + 1, batch)
    return [{k: a[i : i + batch] if a.ndim else a for k, a in arrays.items()} for i in starts]


def parse_dims(pairs: list[str]) -> dict[str, int]:
    """``["batch=8"]`` as ``{"batch": 8}``."""
    dims = {}
    for pair in pairs:
        name, _, size = pair.partition("=")
        if not (size.isascii() and size.isdigit()):
            raise UserError(f"{pair!r} is not a dimension and its size", hint="write --dim batch=8")
        dims[name] = int(size)
    return dims


def read_json(path: Path) -> Any:
    """The contents of a JSON file of an artifact."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"the file is not readable JSON: {error}", where=str(path)) from None
