"""Constant folding: what reads only constants is evaluated by ONNX Runtime itself, in few sessions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from .dims import static
from .editor import Editor
from .random_ops import is_pure

# Quantization is information: folding it would turn int8 weights into floats.
_KEPT = frozenset({"Constant", "Identity", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_DTYPES = frozenset(
    {
        *(ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)
_BATCH_BYTES = 64 << 20  # results of one session, so that old and new weights never all exist together
_BATCH_NODES = 2000
_GROWN = "optc.simplify.grown"  # model meta: bytes by which folding has made the model larger so far
_MOST_GROWTH = 64  # in units of the limit, so that a hostile model cannot grow with each of its nodes

logger = logging.getLogger("optc.simplify")


@dataclass
class Folder:
    """Folds the constants of one model.

    ``limit``: bytes up to which a result may be larger than the constants that go away with its node.
    """

    limit: int
    failed: set[ir.Node] = field(default_factory=set)

    def fold(self, editor: Editor) -> int:
        """Replaces what can be evaluated by initializers; returns the number of nodes evaluated."""
        nodes = self._foldable(editor)
        done = 0
        for batch in _batches(nodes, editor):
            if not editor.trail.open:
                break
            done += self._fold_batch(batch, editor)
        return done

    def _foldable(self, editor: Editor) -> list[ir.Node]:
        known: set[ir.Value] = set()
        nodes = []
        for node in editor.model.graph.all_nodes():
            if node in self.failed or not self._is_foldable(node, known, editor):
                continue
            nodes.append(node)
            known.update(node.outputs)
        return nodes

    def _is_foldable(self, node: ir.Node, known: set[ir.Value], editor: Editor) -> bool:
        facts = editor.facts
        if node.domain not in ("", "ai.onnx") or node.op_type in _KEPT or not is_pure(node):
            return False
        if any(v is not None and v not in known and facts.const(v) is None for v in node.inputs):
            return False
        if any(attribute.is_ref() for attribute in node.attributes.values()):
            return False
        inputs = [value for value in node.inputs if value is not None]
        if any(facts.dtype(value) not in _DTYPES for value in (*inputs, *node.outputs)):
            return False
        sizes = [_nbytes(value, editor) for value in node.outputs]
        if any(size is None for size in sizes):
            return False
        made = sum(size for size in sizes if size is not None)
        freed = sum(_nbytes(value, editor) or 0 for value in set(inputs) if len(value.uses()) == 1)
        if made <= freed:
            return True
        grown = editor.model.meta.get(_GROWN, 0) + made - freed
        if made > self.limit or grown > _MOST_GROWTH * self.limit:
            return editor.skip(node, f"constant not folded: its {made} bytes would make the model larger")
        editor.model.meta[_GROWN] = grown
        return True

    def _fold_batch(self, nodes: Sequence[ir.Node], editor: Editor) -> int:
        inside = set(nodes)
        wanted = [
            output
            for node in nodes
            for output in node.outputs
            if output.is_graph_output() or any(use.node not in inside for use in output.uses())
        ]
        results = _evaluate(nodes, wanted, editor) if wanted else []
        if results is None and len(nodes) > 1:
            middle = len(nodes) // 2
            return self._fold_batch(nodes[:middle], editor) + self._fold_batch(nodes[middle:], editor)
        if results is None:
            self.failed.add(nodes[0])
            return 0
        for output, array in zip(wanted, results, strict=True):
            if not editor.trail.open:
                break
            made_by = output.producer()
            expected = static(editor.facts.shape(output))
            if array.dtype != _numpy_type(output) or array.shape != expected:
                logger.debug("not folded, inference and runtime differ: %s", output.name)
                self.failed.update([made_by] if made_by is not None else [])
                continue
            editor.replace(output, editor.constant(array, f"{output.name}_value"))
            editor.trail.applied("constant folded", [made_by] if made_by is not None else [])
        return sum(node.graph is None for node in nodes)


def _batches(nodes: Sequence[ir.Node], editor: Editor) -> Iterator[list[ir.Node]]:
    batch: list[ir.Node] = []
    size = 0
    for node in nodes:
        made = sum(_nbytes(value, editor) or 0 for value in node.outputs)
        if batch and (size + made > _BATCH_BYTES or len(batch) >= _BATCH_NODES):
            yield batch
            batch, size = [], 0
        batch.append(node)
        size += made
    if batch:
        yield batch


def _nbytes(value: ir.Value, editor: Editor) -> int | None:
    shape, dtype = static(editor.facts.shape(value)), editor.facts.dtype(value)
    if shape is None or dtype is None or any(dim < 0 for dim in shape):
        return None
    size = 1
    for dim in shape:  # python ints: a hostile shape must not wrap around
        size *= dim
    return int(size * dtype.itemsize)


def _numpy_type(value: ir.Value) -> np.dtype | None:
    return None if value.dtype is None else value.dtype.numpy()


def _evaluate(
    nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], editor: Editor
) -> list[np.ndarray] | None:
    """The values of ``wanted``, or None when ONNX Runtime does not accept or cannot run these nodes."""
    values: dict[ir.Value, ir.Value] = {}
    feeds: dict[str, np.ndarray] = {}
    copies = []
    for node in nodes:
        for value in node.inputs:
            if value is None or value in values:
                continue
            tensor = editor.facts.const(value)
            if tensor is None:
                return None  # made by an earlier batch that failed
            values[value] = _stand_in(value, len(values), tensor.dtype, tensor.shape.numpy())
            feeds[values[value].name or ""] = tensor.numpy()
        outputs = []
        for value in node.outputs:
            values[value] = _stand_in(value, len(values), value.dtype, value.shape)
            outputs.append(values[value])
        inputs = [None if value is None else values[value] for value in node.inputs]
        copies.append(
            ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=outputs)
        )
    graph = ir.Graph(
        [stand_in for stand_in in values.values() if stand_in.name in feeds],
        [values[value] for value in wanted],
        nodes=copies,
        opset_imports=dict(editor.model.opset_imports),
        name="constants",
    )
    model = ir.Model(graph, ir_version=editor.model.ir_version)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))
    except Exception as error:  # noqa: BLE001  the runtime raises bare exceptions of its binding
        logger.debug("not folded: %s", error)
        return None


def _stand_in(
    value: ir.Value, number: int, dtype: ir.DataType | None, shape: ir.Shape | Sequence[int] | None
) -> ir.Value:
    return ir.Value(
        name=f"v{number}",
        type=None if dtype is None else ir.TensorType(dtype),
        shape=None if shape is None else ir.Shape(shape),
    )
