"""The arguments and options that the commands share, with what the help says of them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"optc {version('optc')}")
        raise typer.Exit


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="model.onnx, program.pt2, a compiled DIR, or package.module:factory / path/file.py:factory "
        "(this executes the code in that file).",
    ),
]
A = Annotated[str, typer.Argument(metavar="A", help="A model or artifact, as SOURCE of `optc compile`.")]
B = Annotated[str, typer.Argument(metavar="B", help="Another.")]
Contestants = Annotated[
    list[str],
    typer.Argument(
        metavar="A [B ...]",
        help="Models and artifacts, or factories: package.module:factory runs in eager mode, "
        "BACKEND:package.module:factory (inductor, optc, ...) under torch.compile. "
        "A factory executes the code in its file.",
    ),
]
Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Directory of the artifact.")]
Target = Annotated[str, typer.Option(help="What to compile for; see `optc targets`.")]
Level = Annotated[
    int,
    typer.Option(
        "-O",
        min=0,
        max=3,
        help="0: as captured. 1: exact. 2: int8 where it is faster, within --max-error. "
        "3: fewer layers and tokens too; needs --calib.",
    ),
]
Pipeline = Annotated[
    str | None,
    typer.Option(help="Passes to run instead of a level, such as 'simplify, fuse'; see `optc passes`."),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        help="Calibration data: X.npz with one array per input name and the samples along axis 0, "
        "a DIR of such files, or module:function."
    ),
]
MaxError = Annotated[
    float | None,
    typer.Option(show_default="0.1 at -O2 and -O3", help="Allowed relative L2 error of the outputs."),
]
Gate = Annotated[
    bool | None,
    typer.Option(
        "--gate/--no-gate",
        show_default="on for -O, off for --pipeline",
        help="Measure, and undo what does not pay.",
    ),
]
Decisions = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="An earlier artifact whose gate decisions are used again, unmeasured."),
]
Dump = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write a listing of the graph after every pass here.")
]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", help="Size of a named dimension, such as batch=8; may be repeated."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, show_default="physical cores", help="Threads to run and measure with."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
