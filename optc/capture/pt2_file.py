"""``.pt2`` files, which are untrusted.

``torch.export.load`` by itself executes what a hostile file says: it unpickles some records, loads compiled
libraries, evaluates size expressions as Python, and imports modules named in containers. So everything that
would make it do so is refused before it sees the file.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from optc.errors import InvalidModel, UserError

from .alone import alone
from .quiet import quiet

_HINT = "write it with torch.export.save(program, path)"
_SIZE_NAME = re.compile(r"z?[suf]+\d+|[A-Z]\w*|floor|ceiling|oo|int_oo|nan|true|false|sqrt|log2")
_SIZE_NODES = (
    (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.Tuple)
    + (ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
)  # fmt: skip
_IMPORTING = ("default_factory_module", "__enum__")  # keys of containers that name a module to import


def load_pt2(path: Path) -> ExportedProgram:
    """Loads a program that torch.export.save wrote, and executes nothing that the file contains.

    Raises:
        InvalidModel: it is no such file, or holds pickled objects, compiled code or Python expressions.
    """
    where = str(path)
    if not path.is_file():
        raise UserError("there is no such file", where=where)
    _check_archive(path)
    try:
        _check_records(path)
        with alone(), quiet(), _weights_only():
            program = torch.export.load(path)
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InvalidModel(f"the program cannot be read: {reason}", where=where, hint=_HINT) from error
    _check_operators(program, where)
    return program


@contextmanager
def _weights_only() -> Iterator[None]:
    """Torch's own switch: no torch.load unpickles objects, whatever its caller asks for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_archive(path: Path) -> None:
    where = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InvalidModel(f"it is not a .pt2 file: {error}", where=where, hint=_HINT) from error
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise InvalidModel("a record is there twice", where=where, hint=_HINT)
    if any("/" not in name for name in names):
        raise InvalidModel("it is not a .pt2 file of this format", where=where, hint=_HINT)
    if sum(entry.file_size for entry in entries) > 2 * path.stat().st_size + 2**24:
        raise InvalidModel("its records unpack to far more than the file", where=where, hint=_HINT)


def _check_records(path: Path) -> None:
    """Reads records as the loader does, by its own reader."""
    where = str(path)
    reader = torch._C.PyTorchFileReader(str(path))
    names = reader.get_all_records()
    if not any(name.startswith("models/") for name in names):
        raise InvalidModel("it holds no exported program", where=where, hint=_HINT)
    for name in names:
        if name.startswith("data/aotinductor/"):
            raise InvalidModel(
                "it holds compiled code, which is not run", where=f"{where}: {name}", hint=_HINT
            )
        if name.startswith("models/") or name.endswith(".json"):
            text = reader.get_record(name).decode()
            for key, value in _entries(json.loads(text)):
                _check_entry(key, value, f"{where}: {name}")


def _check_entry(key: str, value: Any, where: str) -> None:
    if key == "use_pickle" and value:
        raise InvalidModel("it holds pickled objects, which are not read", where=where, hint=_HINT)
    if key == "path_name" and not str(value).startswith(("weight_", "tensor_")):
        raise InvalidModel(f"{str(value)[:60]!r} is no tensor", where=where, hint=_HINT)
    if key == "expr_str" and not _is_size(str(value)):
        raise InvalidModel(f"{str(value)[:60]!r} is no size", where=where, hint=_HINT)
    if key in _IMPORTING or (isinstance(value, str) and any(word in value for word in _IMPORTING)):
        raise InvalidModel("it names Python modules to import", where=where, hint="use plain containers")


def _entries(data: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested JSON with its value, without recursion: the nesting is the file's choice."""
    stack = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _is_size(text: str) -> bool:
    """Calls and arithmetic over size symbols; the loader hands the text to sympify, which is eval."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval"))) if len(text) < 10_000 else []
    except (SyntaxError, ValueError, RecursionError):
        return False
    return bool(nodes) and all(map(_is_size_node, nodes))


def _is_size_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return bool(_SIZE_NAME.fullmatch(node.id))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(re.fullmatch(r"\w+", node.value))
    return isinstance(node, _SIZE_NODES)


def _check_operators(program: ExportedProgram, where: str) -> None:
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in module.graph.nodes:
            if node.op == "call_function" and not _is_operator(node.target):
                raise InvalidModel(f"{node.target} is no operator", where=f"{where}: {node.name}", hint=_HINT)


def _is_operator(target: Any) -> bool:
    if isinstance(target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator)):
        return True
    if getattr(math, getattr(target, "__name__", ""), None) is target:
        return True
    return target in _BUILTINS


_BUILTINS: frozenset[Any] = frozenset(
    [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod]
    + [operator.pow, operator.neg, operator.pos, operator.abs, operator.getitem, operator.not_]
    + [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.and_]
    + [operator.or_, operator.xor, operator.invert, operator.lshift, operator.rshift]
    + [getattr(torch, n) for n in dir(torch) if n.startswith(("sym_", "_sym_"))]
)
