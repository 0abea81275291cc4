"""Whether `-O2 --max-error` holds on inputs that calibration did not see.

    python benchmarks/budgets.py [--families regnet vit] [--seeds 2] [--samples 16 64] [--budgets 0.02 0.1]

Each row compiles a small network with random weights for one budget, from calibration samples whose sizes
differ, and holds it against 60 other samples, by the error that `--max-error` means. Nothing is timed.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from budget_networks import FAMILIES, made
from rich.console import Console
from rich.table import Table
from torch import nn

import optc
from optc.difference import Comparison

_FRESH = 60


@dataclass(frozen=True)
class Row:
    """What one compile kept to.

    Attributes:
        error: relative L2 error over the fresh samples, pooled.
        sites: how many products and convolutions are in int8.
        left: how many were left in float, with a reason.
    """

    family: str
    seed: int
    samples: int
    budget: float
    error: float
    sites: int
    left: int


def main() -> None:
    """Prints every row, and what they say together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=2, help="networks and draws of samples of each family")
    parser.add_argument("--samples", type=int, nargs="+", default=[16, 64], help="for calibration")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.02, 0.1], help="--max-error")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    console, rows = Console(width=110), []
    for row in _rows(given):
        rows.append(row)
        over = "  above" if row.error > row.budget else ""
        console.print(
            f"{row.family:15} seed {row.seed}  {row.samples:3} samples  {row.error:.4f} of {row.budget:<5}"
            f"{row.sites:4} in int8 {row.left:3} in float{over}"
        )
    console.print(_summary(rows))


def _rows(given: argparse.Namespace) -> Iterator[Row]:
    for name in given.families:
        for seed in range(given.seeds):
            network = made(FAMILIES[name], seed)
            for samples in given.samples:
                for budget in given.budgets:
                    yield _row(name, network, seed, samples, budget)


def _row(name: str, network: nn.Module, seed: int, samples: int, budget: float) -> Row:
    draw = FAMILIES[name].inputs
    seen = draw(samples, torch.Generator().manual_seed(1000 + seed))
    fresh = draw(_FRESH, torch.Generator().manual_seed(777_000 + seed))
    artifact = optc.compile(
        network,
        (seen[:1],),
        level=2,
        calibration={_input(network): seen.numpy()},
        max_error=budget,
        gate=False,
    )
    pooled = Comparison()
    with torch.inference_mode():
        for sample in fresh.split(1):
            pooled.add({"y": network(sample).numpy()}, {"y": artifact(sample).numpy()})
    [quantize] = [row for row in artifact.report["passes"] if row["name"] == "quantize"]
    left = [skip for skip in quantize["skipped"] if "left in float" in skip["reason"]]
    sites = sum(n for kind, n in quantize["matched"].items() if kind.endswith("site"))
    return Row(name, seed, samples, budget, pooled.result().rel_l2, sites, len(left))


def _input(network: nn.Module) -> str:
    """What forward calls its input: Sequential says ``input``, the others ``x``."""
    return "input" if isinstance(network, nn.Sequential) else "x"


def _summary(rows: list[Row]) -> Table:
    table = Table(title="fresh samples against --max-error")
    for column in ("family", "rows", "above", "worst, of its budget", "sites in int8"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for name in [*dict.fromkeys(row.family for row in rows), "all"]:
        mine = [row for row in rows if name in (row.family, "all")]
        worst = max(row.error / row.budget for row in mine)
        above = sum(row.error > row.budget for row in mine)
        table.add_row(name, str(len(mine)), str(above), f"{worst:.2f}", str(sum(row.sites for row in mine)))
    return table


if __name__ == "__main__":
    main()
