"""Draws docs/ledger.svg, README's picture, from the report of a compile.

mkdir -p build; optc compile examples/minilm.py:encoder -o build/minilm --gate-seconds 40
python benchmarks/ledger_picture.py build/minilm
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from optc import ledger

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "ledger.svg"


def main(directory: Path) -> None:
    """Renders what the command printed; fonts come from whoever looks at it, not from a network."""
    report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(ledger.render(report, directory))
    title = f"optc compile examples/minilm.py:encoder -o {directory} --gate-seconds 40"
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
    PICTURE.write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
