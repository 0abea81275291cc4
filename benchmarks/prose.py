"""English sentences that every Python has: those of its library's docstrings, in a fixed random order."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def sentences() -> list[str]:
    """Some thousands of 30 to 250 characters; which exactly depends on the version of Python."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [p for p in sorted(library.rglob("*.py")) if not {"site-packages", "test"} & set(p.parts)]
    found = sorted({sentence for file in files for sentence in _of(file)})
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def _of(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text())
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            continue
        text = " ".join((ast.get_docstring(node) or "").split())
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            if 30 < len(sentence) < 250 and sentence[0].isupper() and not re.search(">>>|_", sentence):
                yield sentence
