"""What capture gives: the model, and how it is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx_ir as ir

from .signature import Signature
from .source_hash import SourceHash

Feeds = dict[str, Any]  # graph input name -> ndarray, list (sequence) or None (optional)


@dataclass
class Captured:
    """A model in the IR, with what is known about its use.

    Attributes:
        source: what was captured, for people.
        examples: feeds by graph input name; the first is the example input. Empty where none could be had.
        examples_note: where they come from: "given", "from the factory", "random, seed 0".
        signature: how the model is called.
    """

    model: ir.Model
    source: str
    examples: list[Feeds]
    examples_note: str
    signature: Signature
    _hash: SourceHash = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._hash = SourceHash(self.model)

    @cached_property
    def source_hash(self) -> str:
        """sha256 of the captured graph and weights, in hexadecimal; stable across runs."""
        return self._hash.hexdigest()
