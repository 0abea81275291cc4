"""Operator schemas: what the installed ONNX Runtime declares, and what ONNX itself declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx.defs
import onnx_ir as ir
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

_ATTRIBUTE_TYPES = dict(ir.AttributeType.__members__)


@dataclass(frozen=True)
class OpSchema:
    """What a node of an operator must look like.

    Attributes:
        inputs, outputs: smallest and largest count.
        required: input positions that may not be left out.
        attributes: name -> declared type and whether it must be given.
        deprecated: ONNX removed the operator at ``since``.
    """

    since: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    required: frozenset[int]
    attributes: Mapping[str, tuple[ir.AttributeType, bool]]
    deprecated: bool = False


def find(domain: str, op_type: str, opset: int) -> OpSchema | None:
    """The schema in force at ``opset`` of ``domain``, or None where neither ONNX nor ONNX Runtime has one."""
    versions = _all().get((_plain(domain), op_type), ())
    return next((schema for schema in versions if schema.since <= opset), None)


def known_versions(domain: str, op_type: str) -> tuple[int, ...]:
    """The opset versions at which the operator was declared or changed, newest first."""
    return tuple(schema.since for schema in _all().get((_plain(domain), op_type), ()))


def runtime_since(domain: str, op_type: str, opset: int) -> int | None:
    """The version of the declaration that ONNX Runtime itself has in force at ``opset``, or None."""
    versions = _runtime_versions().get((_plain(domain), op_type), ())
    return max((version for version in versions if version <= opset), default=None)


def names(domain: str) -> list[str]:
    """The operators of a domain, sorted."""
    return sorted({op for owner, op in _all() if owner == _plain(domain)})


@cache
def runtime_domains() -> Mapping[str, int]:
    """The domains that the installed ONNX Runtime knows, with the newest version that declares an op."""
    newest: dict[str, int] = {}
    for schema in ort_state.get_all_operator_schema():
        domain = _plain(schema.domain)
        newest[domain] = max(newest.get(domain, 1), schema.since_version)
    return newest


@cache
def _runtime_versions() -> Mapping[tuple[str, str], frozenset[int]]:
    found: dict[tuple[str, str], set[int]] = {}
    for schema in ort_state.get_all_operator_schema():
        found.setdefault((_plain(schema.domain), schema.name), set()).add(schema.since_version)
    return {key: frozenset(versions) for key, versions in found.items()}


@cache
def _all() -> Mapping[tuple[str, str], tuple[OpSchema, ...]]:
    found: dict[tuple[str, str], dict[int, OpSchema]] = {}
    # ONNX Runtime's view comes last and wins: it is what will execute the model.
    for raw in (*onnx.defs.get_all_schemas_with_history(), *ort_state.get_all_operator_schema()):
        found.setdefault((_plain(raw.domain), raw.name), {})[raw.since_version] = _schema(raw)
    return {
        key: tuple(schema for _, schema in sorted(versions.items(), reverse=True))
        for key, versions in found.items()
    }


def _schema(raw: Any) -> OpSchema:
    return OpSchema(
        since=raw.since_version,
        inputs=(raw.min_input, raw.max_input),
        outputs=(raw.min_output, raw.max_output),
        required=frozenset(i for i, p in enumerate(raw.inputs) if p.option.name == "Single"),
        attributes={
            # ONNX Runtime has no name for the type-proto kinds: UNDEFINED stands for any type.
            name: (_ATTRIBUTE_TYPES.get(attribute.type.name, ir.AttributeType.UNDEFINED), attribute.required)
            for name, attribute in raw.attributes.items()
        },
        deprecated=raw.deprecated,
    )


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
