"""Tensors of a model file: checked against their bytes before anything is allocated, then made our own."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from optc.errors import InvalidModel

from .external import DataFiles, check_entries

_DENSE_PER_VALUE = 10_000  # a sparse tensor may grow this much (plus 1 MiB) when it is made dense
_MIB = 1 << 20

# Which field holds the elements of a dtype that are not in raw_data, and how many entries an element takes.
_FIELDS: dict[ir.DataType, tuple[str, float]] = {
    ir.DataType.FLOAT: ("float_data", 1),
    ir.DataType.COMPLEX64: ("float_data", 2),
    ir.DataType.DOUBLE: ("double_data", 1),
    ir.DataType.COMPLEX128: ("double_data", 2),
    ir.DataType.INT64: ("int64_data", 1),
    ir.DataType.UINT64: ("uint64_data", 1),
    ir.DataType.UINT32: ("uint64_data", 1),
    ir.DataType.STRING: ("string_data", 1),
}
_ALL_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def check_tensor(proto: onnx.TensorProto, where: str) -> None:
    """Whether dims, dtype and the bytes that are there agree; allocates nothing.

    Raises:
        InvalidModel: they do not.
    """
    dtype = _dtype(proto, where)
    count = _count(proto.dims, where)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        if dtype == ir.DataType.STRING:
            raise InvalidModel("strings cannot be external data", where=where, hint=_EXPORT_AGAIN)
        check_entries(_entries(proto), where)
        return
    if proto.HasField("raw_data"):
        wanted = _nbytes(count, dtype)
        if dtype == ir.DataType.STRING or len(proto.raw_data) != wanted:
            what = f"raw_data has {len(proto.raw_data)} bytes, and {dtype} {list(proto.dims)} needs {wanted}"
            raise InvalidModel(what, where=where, hint=_EXPORT_AGAIN)
        return
    field, entries = _field(dtype)
    wanted = math.ceil(count * entries)
    if len(getattr(proto, field)) != wanted:
        what = (
            f"{field} has {len(getattr(proto, field))} entries, and {dtype} {list(proto.dims)} needs {wanted}"
        )
        used = [name for name in _ALL_FIELDS if name != field and len(getattr(proto, name))]
        if used:
            what += f"; its data is in {used[0]}, which is for another dtype"
        raise InvalidModel(what, where=where, hint=_EXPORT_AGAIN)


def to_ir(proto: onnx.TensorProto, files: DataFiles, where: str) -> ir.TensorProtocol:
    """A checked tensor in the IR: external data as a view of its file, everything else as a copy of its own.

    A copy, because one tensor that still points into the parsed file would keep all of it in memory.
    """
    dtype, shape = ir.DataType(proto.data_type), ir.Shape(proto.dims)
    name = proto.name or None
    if dtype == ir.DataType.STRING:
        return ir.StringTensor(list(proto.string_data), shape=shape, name=name)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        data = files.read(_entries(proto), _nbytes(math.prod(proto.dims), dtype), where)
    elif proto.HasField("raw_data"):
        data = np.frombuffer(proto.raw_data, np.uint8)
    else:
        array = numpy_helper.to_array(proto)
        return ir.tensor(array, dtype=dtype, name=name)
    if dtype.bitwidth < 8:
        return ir.PackedTensor(data, dtype, shape=shape, name=name)
    array = data.view(dtype.numpy().newbyteorder("<")).reshape(tuple(proto.dims))
    return ir.Tensor(array, dtype, shape=shape, name=name)


def to_dense(sparse: onnx.SparseTensorProto, files: DataFiles, where: str) -> onnx.TensorProto:
    """A sparse tensor written out, as ONNX Runtime does it on load.

    Raises:
        InvalidModel: it is malformed, or would take far more memory than it holds values.
    """
    dtype = _dtype(sparse.values, where)
    count = _count(sparse.dims, where)
    stored = _count(sparse.values.dims, where)
    if _nbytes(count, dtype) > _MIB + stored * _DENSE_PER_VALUE:
        what = f"a sparse tensor of {stored} values stands for {list(sparse.dims)}, too much to write out"
        raise InvalidModel(what, where=where, hint="store the tensor dense, or compute it in the graph")
    if dtype == ir.DataType.STRING or dtype.bitwidth < 8:
        raise InvalidModel(f"a sparse tensor cannot be {dtype}", where=where)
    check_tensor(sparse.values, where)
    check_tensor(sparse.indices, where)
    values = to_ir(sparse.values, files, where).numpy().reshape(-1)
    indices = to_ir(sparse.indices, files, where).numpy()
    if indices.ndim == 2 and indices.shape == (stored, len(sparse.dims)):
        outside = (indices < 0) | (indices >= np.asarray(sparse.dims))
        flat = np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims)) if not outside.any() else None
    elif indices.shape == (stored,):
        flat = indices if not ((indices < 0) | (indices >= count)).any() else None
    else:
        flat = None
    if flat is None:
        what = f"the indices {list(indices.shape)} of a sparse tensor do not fit its {stored} values and dims"
        raise InvalidModel(what, where=where, hint=_EXPORT_AGAIN)
    dense = np.zeros(count, values.dtype)
    dense[flat] = values
    return numpy_helper.from_array(dense.reshape(tuple(sparse.dims)), sparse.values.name)


def _entries(proto: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in proto.external_data}


def _dtype(proto: onnx.TensorProto, where: str) -> ir.DataType:
    try:
        dtype = ir.DataType(proto.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise InvalidModel(f"data type {proto.data_type} is not one of ONNX", where=where, hint=_EXPORT_AGAIN)
    return dtype


def _count(dims: object, where: str) -> int:
    sizes = [int(d) for d in dims]  # type: ignore[attr-defined]
    if any(size < 0 for size in sizes):
        raise InvalidModel(f"dims {sizes} of a tensor are negative", where=where, hint=_EXPORT_AGAIN)
    return math.prod(sizes)


def _nbytes(count: int, dtype: ir.DataType) -> int:
    return 0 if dtype == ir.DataType.STRING else math.ceil(count * dtype.bitwidth / 8)


def _field(dtype: ir.DataType) -> tuple[str, float]:
    # int32_data holds everything else; types of less than a byte are packed, a byte to an entry.
    return _FIELDS[dtype] if dtype in _FIELDS else ("int32_data", min(1.0, dtype.bitwidth / 8))


_EXPORT_AGAIN = "the file is damaged: export the model again"
