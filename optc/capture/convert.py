"""From an ExportedProgram to the IR, through the stock exporter."""

from __future__ import annotations

import logging
import re

import onnx_ir as ir
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from optc.errors import CaptureError

from . import experts
from .alone import alone
from .digits import exact_numbers
from .exporter_fixes import adapted
from .guards import drop_idle
from .provenance import innermost
from .quiet import quiet
from .rewrites import exact_rewrites
from .scalars import fractions_in_double
from .torchlib import table_made_once
from .translations import TABLE

_log = logging.getLogger(__name__)


def to_ir(program: ExportedProgram, name: str) -> ir.Model:
    """Converts ``program``, which is left as it was; weights are shared.

    Warns of state that the program changes in place, since a graph returns results only.

    Raises:
        CaptureError: an operator has no ONNX form.
    """
    table = {**TABLE, **experts.table()}
    try:
        with (
            alone(), quiet(), torch.no_grad(),
            table_made_once(), exact_numbers(), fractions_in_double(), exact_rewrites(), adapted(program),
        ):  # fmt: skip
            exported = torch.onnx.export(program, dynamo=True, verbose=False, custom_translation_table=table)
    except torch.onnx.OnnxExporterError as error:
        raise _explained(error, program, name) from error
    assert exported is not None
    changed = _changed_in_place(exported.exported_program)
    if changed:
        _log.warning("%s changes %s in place; the captured model does not", name, ", ".join(changed))
    drop_idle(exported.model)
    return exported.model


def _changed_in_place(program: ExportedProgram | None) -> list[str]:
    """Buffers and inputs; known only of a program without in-place operators, which is what was converted."""
    kinds = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)
    specs = program.graph_signature.output_specs if program is not None else ()
    return [str(spec.target) for spec in specs if spec.kind in kinds]


def _explained(error: BaseException, program: ExportedProgram, name: str) -> CaptureError:
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    node = _failed_node(error, program)
    operator = f"operator {node.target}" if node is not None else "an operator"
    reason = str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__
    return CaptureError(
        f"{name} has no ONNX form: {operator} cannot be converted: {reason[:300]}",
        where=innermost(str(node.meta.get("stack_trace", ""))) if node is not None else None,
        hint=_hint(node),
    )


def _hint(node: torch.fx.Node | None) -> str:
    namespace = str(node.target).partition(".")[0] if node is not None else "aten"
    if namespace == "transformers":
        return 'choose an implementation in plain torch: experts_implementation="batched_mm" in the config'
    if namespace not in ("aten", "prims", "higher_order", "optc"):
        return f"{namespace} is a library of custom operators: switch it off, or write that line with torch's"
    return "write that line with other operators"


def _failed_node(error: BaseException, program: ExportedProgram) -> torch.fx.Node | None:
    """The node of the program that the exporter's message is about."""
    text, cause = "", error.__cause__
    while cause is not None:
        text, cause = f"{text}\n{cause}", cause.__cause__
    names = re.findall(r"%(\w+) :|target=([\w.:]+)|<OpOverload\(op='([\w.:]+)', overload='(\w+)'\)>", text)
    targets = {f"{op.replace('::', '.')}.{overload}" for _, _, op, overload in names if op}
    targets |= {target.removeprefix("torch.ops.") for _, target, _, _ in names if target}
    nodes = [
        n
        for m in program.graph_module.modules()
        if isinstance(m, torch.fx.GraphModule)
        for n in m.graph.nodes
    ]
    return next((n for n in nodes if n.op == "call_function" and str(n.target) in targets), None)
