"""Whether `-O2` is ever slower than `-O1`, and whether it keeps to `--max-error`, on many kinds of networks.

    python benchmarks/levels.py [--kinds regnet lstm] [--samples 24] [--max-error 0.1] [--gate-seconds 20]

Each network (random weights, batch 1) is compiled at both levels with the gate, and timed as `optc bench`
does it, `-O1` against the plain export and `-O2` against `-O1`. Errors are taken on 40 samples that
calibration did not see. About two minutes for each.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from level_networks import KINDS, Kind, made
from rich.console import Console
from rich.table import Table

import optc
from optc.bench.report import bench_data
from optc.difference import Comparison

_FRESH = 40


def main() -> None:
    """Prints a row as soon as it is measured, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    parser.add_argument("--samples", type=int, default=24, help="for calibration")
    parser.add_argument("--max-error", type=float, default=0.1)
    parser.add_argument("--gate-seconds", type=float, default=20.0)
    parser.add_argument("--sessions", type=int, default=7)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    console = Console(width=120)
    table = Table(title="median of paired ratios (interval), fresh processes")
    for heading in ("network", "-O1 over plain", "-O2 over -O1", "verdict", "quantized", "error", "allowed"):
        table.add_column(heading, justify="left" if heading in ("network", "verdict") else "right")
    for name in given.kinds:
        row = _row(name, KINDS[name], given)
        console.print("  ".join(row))
        table.add_row(*row)
    console.print(table)


def _row(name: str, kind: Kind, given: argparse.Namespace) -> list[str]:
    network = made(kind)
    seen = kind.draw(given.samples, torch.Generator().manual_seed(1))
    [argument] = [text for text in ("x", "input") if text in _names(network)]
    with tempfile.TemporaryDirectory() as folder:
        texts, artifacts = [f"{folder}/{level}" for level in ("plain", "one", "two")], []
        for level, text in enumerate(texts):
            artifacts.append(
                optc.compile(
                    network,
                    (seen[:1],),
                    level=level,
                    calibration={argument: seen.numpy()} if level == 2 else None,
                    max_error=given.max_error if level == 2 else None,
                    gate=level > 0,
                    gate_seconds=given.gate_seconds,
                    output=text,
                )
            )
        np.savez(f"{folder}/x.npz", **{argument: seen[:1].numpy()})
        asked = {"inputs": Path(folder, "x.npz"), "sessions": given.sessions}
        one = bench_data(texts[:2], **asked)["contestants"][1]
        two = bench_data(texts[1:], **asked)["contestants"][1]
    pooled = Comparison()
    with torch.inference_mode():
        for sample in kind.draw(_FRESH, torch.Generator().manual_seed(2)).split(1):
            pooled.add({"y": network(sample).numpy()}, {"y": artifacts[2](sample).numpy()})
    error, sites = pooled.result().rel_l2, _sites(artifacts[2].report)
    over = "  above" if error > given.max_error else ""
    return [name, _ratio(one), _ratio(two), two["verdict"], sites, f"{error:.4f}", f"{given.max_error}{over}"]


def _names(network: torch.nn.Module) -> list[str]:
    """What forward calls its inputs: Sequential says ``input``, the others ``x``."""
    return list(network.forward.__code__.co_varnames[: network.forward.__code__.co_argcount])


def _ratio(row: dict[str, object]) -> str:
    return f"{row['speedup']:.3f}x ({row['low'] or 0:.3f} to {row['high'] or float('inf'):.3f})"


def _sites(report: dict[str, object]) -> str:
    """How many products and convolutions have fewer bits, or that quantize was undone."""
    [quantize] = [row for row in report["passes"] if row["name"] == "quantize"]
    if quantize["reverted"]:
        return "undone"
    quantized = [n for kind, n in quantize["matched"].items() if re.search(r"site$|^weight in \d", kind)]
    return str(sum(quantized))


if __name__ == "__main__":
    main()
