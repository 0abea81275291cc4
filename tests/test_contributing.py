"""CONTRIBUTING.md shows complete files: put where their first line says, they work, and their tests pass."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = dict(
    re.findall(
        r"```python\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
    )
)
# Run in a process of its own: what the examples register must not be seen by other tests.
RUNNER = """
import importlib, sys, pytest
for folder in ("passes", "passes.fuse", "targets"):
    importlib.import_module(f"optc.{folder}").__path__.append(f"{sys.argv[1]}/{folder.replace('.', '/')}")
options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={sys.argv[1]}"]
sys.exit(pytest.main([*options, sys.argv[1] + "/tests"]))
"""


def test_the_page_shows_a_pass_a_pattern_and_a_target_with_their_tests() -> None:
    assert set(FILES) == {
        "passes/flush_tiny.py",
        "tests/passes/test_flush_tiny.py",
        "passes/fuse/softsign.py",
        "tests/passes/fuse/test_softsign.py",
        "targets/plain.py",
        "tests/targets/test_plain.py",
    }


def test_the_examples_pass_their_own_tests(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


@pytest.mark.parametrize("folder", ["passes", "codegen", "targets"])
def test_folders_refuse_to_be_imported_under_their_own_name(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, folder, raising=False)
    with pytest.raises(ImportError, match=f"optc.{folder}"):
        importlib.import_module(folder)
