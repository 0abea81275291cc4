"""The command line: parses, calls the API, prints."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from optc import cli_options as options
from optc import console

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def optc(version: options.Version = False) -> None:
    """An optimizing compiler for neural-network inference. Right, measured, explained."""


@app.command("compile")
def compile_command(
    source: options.Source,
    output: options.Output,
    target: options.Target = "cpu",
    level: options.Level = 1,
    pipeline: options.Pipeline = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Example inputs: X.npz with one array per input name.")
    ] = None,
    calib: options.Calibration = None,
    max_error: options.MaxError = None,
    metric: Annotated[
        str | None, typer.Option(help="module:function; metric(run) -> float, higher is better.")
    ] = None,
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop of the metric, absolute.")] = None,
    gate: options.Gate = None,
    gate_seconds: Annotated[float, typer.Option(help="Time budget of the gate in seconds.")] = 30.0,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Show error against latency for weaker and stronger lossy passes."),
    ] = False,
    curve_seconds: Annotated[
        float, typer.Option(min=0.0, help="Time budget of the curve in seconds.")
    ] = 30.0,
    decisions: options.Decisions = None,
    dump: options.Dump = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Check every exact rewrite where it is applied.")
    ] = False,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    arch: Annotated[str | None, typer.Option(help="GPU architectures to compile for.", hidden=True)] = None,
    emit: Annotated[str | None, typer.Option(help="The form of the emitted program.", hidden=True)] = None,
    as_json: options.Json = False,
) -> None:
    """Compile a model into an artifact directory and print what every pass did and bought."""
    from optc import data, driver, ledger

    # For targets that a package adds; a target refuses options that it does not know.
    for_target = {key: value for key, value in (("arch", arch), ("emit", emit)) if value is not None}
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
            target_options=for_target,
            output=output,
            progress=progress,
        )
    console.show(artifact.report, as_json, lambda: ledger.render(artifact.report, output))


@app.command()
def run(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A compiled artifact.")],
    inputs: Annotated[Path, typer.Option(help="X.npz with one array per input name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the outputs go, as .npz.")],
    threads: Annotated[
        int | None, typer.Option(min=1, show_default="as compiled", help="Threads to run with.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run an artifact on inputs from an .npz file and write the outputs to another."""
    from optc import artifact, data, ledger

    results = artifact.load(directory, threads=threads).run(data.load_feeds(inputs))
    data.save_outputs(output, results)
    summary = {name: ledger.describe(value) for name, value in results.items()}
    console.show(
        {"outputs": summary, "file": str(output)}, as_json, lambda: ledger.outputs_table(summary, output)
    )


@app.command()
def inspect(source: options.Source, dim: options.Dims = None, as_json: options.Json = False) -> None:
    """Show a model by its blocks: parameters, FLOPs, bytes and the roofline estimate."""
    from optc import data, driver, report
    from optc import inspect as inspection

    found = inspection.inspect_data(driver.open_model(source), data.parse_dims(dim or []))
    if (Path(source) / "report.json").is_file():
        found["ledger"] = report.read(Path(source) / "report.json")
    if (Path(source) / "manifest.json").is_file():
        found["tuned"] = inspection.tuned(Path(source))
    console.show(found, as_json, lambda: inspection.render(found))


@app.command()
def diff(
    a: options.A,
    b: options.B,
    inputs: Annotated[
        Path | None, typer.Option(help="X.npz: also run both on these inputs and compare.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show what differs between two models: structure, parameters, and results on given inputs."""
    from optc import data, driver
    from optc import diff as difference

    feeds = None if inputs is None else data.load_feeds(inputs)
    found = difference.diff_data(driver.open_model(a), driver.open_model(b), feeds)
    console.show(found, as_json, lambda: difference.render(found))


@app.command()
def bench(
    contestants: options.Contestants,
    inputs: Annotated[
        Path | None,
        typer.Option(show_default="the example of a factory, or random", help="X.npz for all of them."),
    ] = None,
    dim: options.Dims = None,
    threads: options.Threads = None,
    sessions: Annotated[
        int, typer.Option(min=1, help="Fresh processes of each; six or more give an interval.")
    ] = 7,
    seconds: Annotated[float, typer.Option(min=0.0, help="Seconds that each is timed in a session.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random inputs, and of the order.")] = 0,
    as_json: options.Json = False,
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
    console.show(found, as_json, lambda: report.render(found))


@app.command()
def bisect(
    source: options.Source,
    max_error: Annotated[
        float, typer.Option(min=0.0, help="The relative L2 error that nothing should exceed.")
    ],
    pipeline: options.Pipeline = None,
    level: options.Level = 1,
    target: options.Target = "cpu",
    inputs: Annotated[Path | None, typer.Option(help="X.npz: inputs to take the error on.")] = None,
    calib: options.Calibration = None,
    decisions: options.Decisions = None,
    every: Annotated[bool, typer.Option("--every", help="Try rewrites one by one, not by halving.")] = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
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
    console.show(found, as_json, lambda: search.render(found))


@app.command()
def passes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One pass; without it, all.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the passes, or show one with its options."""
    from optc import catalog

    found: Any = catalog.passes() if name is None else catalog.one_pass(name)
    console.show(found, as_json, lambda: catalog.render(found))


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One target; without it, all.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the targets, or show one with its pipelines and lowerings."""
    from optc import catalog

    found: Any = catalog.targets() if name is None else catalog.one_target(name)
    console.show(found, as_json, lambda: catalog.render(found))


def main(arguments: list[str] | None = None) -> None:
    """The ``optc`` command; exits the process. Told to terminate it ends as after Ctrl-C, and cleans up."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code; errors are printed to stderr."""
    command = typer.main.get_command(app)
    return console.exit_code(
        lambda: command.main(arguments, prog_name="optc", standalone_mode=False), "--json" in arguments
    )


if __name__ == "__main__":
    main()
