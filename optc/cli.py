"""The command line: parses, calls the API, prints. Exit 0 ok, 2 user error, 1 internal error."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from optc.errors import OptcError, UserError

# typer carries its own click, so the base of its errors is reached through typer.
_ClickError: type[Exception] = next(t for t in typer.BadParameter.__mro__ if t.__name__ == "ClickException")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="optc: an optimizing compiler for neural-network inference. Right, measured, explained.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
_SOURCES = "package.module:factory / path/file.py:factory (this executes the code in that file)."
Model = Annotated[str, typer.Argument(help=f"model.onnx, program.pt2, a compiled DIR, or {_SOURCES}")]
Bind = Annotated[
    list[str] | None,
    typer.Option("--dim", help="Size of a named dimension, such as batch=8; may be repeated."),
]


@app.command("compile")
def compile_command(
    source: Model,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Directory of the artifact.")],
    target: Annotated[str, typer.Option(help="What to compile for; see `optc targets`.")] = "cpu",
    level: Annotated[
        int, typer.Option("-O", min=0, max=3, help="0 capture only, 1 exact, 2 int8, 3 all.")
    ] = 1,
    pipeline: Annotated[str | None, typer.Option(help="Passes to run instead of a level.")] = None,
    inputs: Annotated[Path | None, typer.Option(help="Example inputs, one array per input name.")] = None,
    calib: Annotated[
        str | None,
        typer.Option(help="Calibration data: X.npz, a DIR of them, or module:function."),
    ] = None,
    max_error: Annotated[
        float | None, typer.Option(help="Allowed relative L2 error; 0.1 at -O2 and -O3.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="module:function, metric(run) -> float.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop of the metric.")] = None,
    gate: Annotated[
        bool | None,
        typer.Option("--gate/--no-gate", help="Measure, and undo what does not pay."),
    ] = None,
    gate_seconds: Annotated[float, typer.Option(help="Time budget of the gate.")] = 30.0,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Show error against latency for weaker and stronger lossy passes."),
    ] = False,
    curve_seconds: Annotated[float, typer.Option(min=0.0, help="Time budget of the curve.")] = 30.0,
    decisions: Annotated[
        Path | None,
        typer.Option(help="An earlier artifact whose gate decisions are used again, unmeasured."),
    ] = None,
    dump: Annotated[Path | None, typer.Option(help="Write a listing after every pass here.")] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Check every exact rewrite where it is applied.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to run and measure with.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    arch: Annotated[str | None, typer.Option(help="GPU architectures to compile for.", hidden=True)] = None,
    emit: Annotated[str | None, typer.Option(help="The form of the emitted program.", hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Compile a model into an artifact directory and print what every pass did and bought."""
    from optc import data, driver, ledger

    # For targets that a package adds; a target refuses options that it does not know.
    options = {key: value for key, value in (("arch", arch), ("emit", emit)) if value is not None}
    with ledger.progress(enabled=not as_json) as progress:
        artifact = driver.compile(
            source,
            target=target,
            pipeline=pipeline,
            level=level,
            inputs=None if inputs is None else data.load_feeds(inputs),
            calibration=None if calib is None else data.load_calibration(calib),
            max_error=max_error,
            metric=None if metric is None else data.load_callable(metric, "metric"),
            max_drop=max_drop,
            gate=gate,
            gate_seconds=gate_seconds,
            curve=curve,
            curve_seconds=curve_seconds,
            decisions=decisions,
            dump=dump,
            validate=validate,
            threads=threads,
            seed=seed,
            target_options=options,
            output=output,
            progress=progress,
        )
    _print(artifact.report, as_json, lambda: ledger.render(artifact.report, output))


@app.command()
def run(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A compiled artifact.")],
    inputs: Annotated[Path, typer.Option(help="X.npz with one array per input name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the outputs go, as .npz.")],
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to run with.")] = None,
    as_json: Json = False,
) -> None:
    """Run an artifact on inputs from an .npz file and write the outputs to another."""
    from optc import artifact, data, ledger

    results = artifact.load(directory, threads=threads).run(data.load_feeds(inputs))
    data.save_outputs(output, results)
    summary = {name: ledger.describe(value) for name, value in results.items()}
    _print({"outputs": summary, "file": str(output)}, as_json, lambda: ledger.outputs_table(summary, output))


@app.command()
def inspect(source: Model, dim: Bind = None, as_json: Json = False) -> None:
    """Show a model by its blocks: parameters, FLOPs, bytes and the roofline estimate."""
    from optc import data, driver
    from optc import inspect as inspection

    found = inspection.inspect_data(driver.open_model(source), data.parse_dims(dim or []))
    if (Path(source) / "report.json").is_file():
        found["ledger"] = data.read_json(Path(source) / "report.json")
    if (Path(source) / "manifest.json").is_file():
        found["tuned"] = inspection.tuned(Path(source))
    _print(found, as_json, lambda: inspection.render(found))


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A model or artifact.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    inputs: Annotated[Path | None, typer.Option(help="Also run both on these and compare.")] = None,
    as_json: Json = False,
) -> None:
    """Show what differs between two models: structure, parameters, and results on given inputs."""
    from optc import data, driver
    from optc import diff as difference

    feeds = None if inputs is None else data.load_feeds(inputs)
    found = difference.diff_data(driver.open_model(a), driver.open_model(b), feeds)
    _print(found, as_json, lambda: difference.render(found))


@app.command()
def bench(
    contestants: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B ...]",
            help="Models and artifacts, or factories: package.module:factory runs in eager mode, "
            "BACKEND:package.module:factory (inductor, optc, ...) under torch.compile. "
            "A factory executes the code in its file.",
        ),
    ],
    inputs: Annotated[Path | None, typer.Option(help="X.npz for all of them; otherwise examples.")] = None,
    dim: Bind = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of every contestant.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Fresh processes of each.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each is timed in a session.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random inputs, and of the order.")] = 0,
    as_json: Json = False,
) -> None:
    """Time models side by side in fresh processes, and say whether a difference is more than noise."""
    from optc import data, ledger
    from optc.bench import report

    with ledger.progress(enabled=not as_json) as progress:
        found = report.bench_data(
            contestants,
            inputs=inputs,
            dims=data.parse_dims(dim or []),
            threads=threads,
            sessions=sessions,
            seconds=seconds,
            seed=seed,
            progress=progress,
        )
    _print(found, as_json, lambda: report.render(found))


@app.command()
def bisect(
    source: Model,
    max_error: Annotated[float, typer.Option(min=0.0, help="The relative L2 error that is exceeded.")],
    pipeline: Annotated[str | None, typer.Option(help="Passes to run instead of a level.")] = None,
    level: Annotated[int, typer.Option("-O", min=0, max=3, help="As of `optc compile`.")] = 1,
    target: Annotated[str, typer.Option(help="What to compile for; see `optc targets`.")] = "cpu",
    inputs: Annotated[Path | None, typer.Option(help="Inputs to take the error on.")] = None,
    calib: Annotated[str | None, typer.Option(help="Calibration data, as of `optc compile`.")] = None,
    decisions: Annotated[Path | None, typer.Option(help="An artifact whose gate decisions to use.")] = None,
    every: Annotated[bool, typer.Option("--every", help="Try rewrites one by one, not by halving.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Find the pass, and the rewrite inside it, with which the results first leave an error."""
    from optc import bisect as search
    from optc import data, ledger

    with ledger.progress(enabled=not as_json) as progress:
        found = search.bisect_data(
            source,
            max_error=max_error,
            pipeline=pipeline,
            level=level,
            target=target,
            inputs=None if inputs is None else data.load_feeds(inputs),
            calibration=None if calib is None else data.load_calibration(calib),
            decisions=decisions,
            every=every,
            seed=seed,
            progress=progress,
        )
    _print(found, as_json, lambda: search.render(found))


@app.command()
def passes(
    name: Annotated[str | None, typer.Argument(help="One pass; without it, all.")] = None,
    as_json: Json = False,
) -> None:
    """List the passes, or show one with its options."""
    from optc import catalog

    found: Any = catalog.passes() if name is None else catalog.one_pass(name)
    _print(found, as_json, lambda: catalog.render(found))


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="One target; without it, all.")] = None,
    as_json: Json = False,
) -> None:
    """List the targets, or show one with its pipelines and lowerings."""
    from optc import catalog

    found: Any = catalog.targets() if name is None else catalog.one_target(name)
    _print(found, as_json, lambda: catalog.render(found))


def _print(data: Any, as_json: bool, rendered: Any) -> None:
    from rich.console import Console

    try:
        if as_json:
            sys.stdout.write(json.dumps(data, indent=1, default=str) + "\n")
        else:
            # A pipe has no width of its own; 100 columns keep tables whole when the output is kept in a file.
            Console(width=None if sys.stdout.isatty() else 100).print(rendered())
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again when the interpreter closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"the output cannot be written: {error.strerror}", where="stdout") from None


_INTERRUPTED, _STOPPED = 130, "optc: interrupted; nothing was written\n"


def main(arguments: list[str] | None = None) -> None:
    """The ``optc`` command; exits the process."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code; errors are printed to stderr."""
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="optc", standalone_mode=False)
        if result == _INTERRUPTED:  # typer makes an exit code of Ctrl-C
            sys.stderr.write(_STOPPED)
        return result if isinstance(result, int) else 0
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(f"{error}\n")
            return 0
        error.show()  # type: ignore[attr-defined]
        return 2
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write(_STOPPED)
        return _INTERRUPTED
    except UserError as error:
        _complain(error, arguments, "error")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("OPTC_DEBUG") or not isinstance(error, OptcError):
            traceback.print_exc()
        _complain(error, arguments, "internal error")
        sys.stderr.write(
            "  This is a defect of optc, not of your model. Please report it with the command line, "
            "the versions from `pip freeze`,\n  and the full trace (set OPTC_DEBUG=1).\n"
        )
        return 1


def _complain(error: Exception, arguments: list[str], what: str) -> None:
    if "--json" in arguments:
        details = {key: getattr(error, key, None) for key in ("what", "where", "hint")}
        sys.stdout.write(json.dumps({what.replace(" ", "_"): {**details, "message": str(error)}}) + "\n")
    sys.stderr.write(f"optc: {what}: {error}\n")


if __name__ == "__main__":
    main()
