"""`regiolect tune`: what makes approved engines fast where they run, and whether two devices of one type are alike."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.exit_codes import comparison_exit_code, tuning_exit_code
from regiolect.cli.options import (
    JsonFile,
    Model,
    Policies,
    Regions,
    Targets,
    Verbose,
    chosen_model,
    names_in,
    require_writable,
    settings_with,
    tell,
)
from regiolect.tune.candidates import DEFAULT_MINUTES

if TYPE_CHECKING:
    from regiolect.tune.compare import DeviceComparison
    from regiolect.tune.result import TuningResult


def tune(
    model: Model = None,
    regions: Regions = "",
    targets: Targets = "",
    minutes: Annotated[
        float, typer.Option("--minutes", "-m", min=0.05, help="How long measuring may take, for each engine.")
    ] = DEFAULT_MINUTES,
    force: Annotated[bool, typer.Option("--force", help="Measure anew instead of going on from a journal.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", help="Instead: compare two sites' journals of one engine on one type of device."),
    ] = None,
    json_file: JsonFile = None,
    policies: Policies = None,
    verbose: Verbose = False,
) -> None:
    """Find batch sizes and settings that make approved engines fast on their own targets; time and judge them anew.

    What is found is kept with the engine; the next `regiolect run` publishes it, and builds nothing again. Exit code 1
    if an engine was not tuned, or if --compare finds that one site lags.

    Examples: regiolect tune examples.fashion:MODEL --regions eu --minutes 2
    or regiolect tune --compare oslo.json lyon.json
    """
    from regiolect.errors import UsageError

    if model is not None and compare is not None:
        raise UsageError(
            expected="a model to tune, or --compare with two files",
            found="both",
            remedy="regiolect tune MODEL --regions eu, or regiolect tune --compare A.json B.json",
        )
    require_writable(json_file)
    if compare is not None:
        comparison = _compared(*compare)
        tell(comparison, json_file, lambda: _print_comparison(comparison))
        raise typer.Exit(comparison_exit_code(comparison))
    from regiolect.orchestrator import run_tuning
    from regiolect.progress import watching

    address = chosen_model(model)
    with watching(verbose):
        result = run_tuning(
            settings_with(policies),
            address,
            names_in(regions),
            targets=names_in(targets),
            minutes=minutes,
            force=force,
        )
    tell(result, json_file, lambda: _print(result))
    raise typer.Exit(tuning_exit_code(result))


def _print(result: TuningResult) -> None:
    """The default against the operating points of each engine; then what was not tuned, with its remedy."""
    from rich.table import Table

    from regiolect.cli.terminal import Terminal, print_failure, shown
    from regiolect.tune import words

    console = Terminal(width=None if sys.stdout.isatty() else 160)
    table = Table()
    for number, name in enumerate(("region", "target", *words.HEAD)):
        table.add_column(name, overflow="fold", justify="right" if number in (3, 4, 6, 7, 8) else "left")
    tuned = [answer.outcome for answer in result.answers if answer.outcome.tuning is not None]
    for outcome in tuned:
        if outcome.tuning is not None:
            for cells in words.rows(outcome.tuning):
                table.add_row(outcome.region, outcome.place, *map(shown, cells))
            table.add_section()
    if table.row_count:
        console.print(table)
    for outcome in tuned:
        if outcome.tuning is not None:
            where = f"{outcome.region} {outcome.place}"
            console.print(shown(f"{where}: {words.device(outcome.tuning)}"), style="dim", soft_wrap=True)
            console.print(
                shown(f"{where}: noise {outcome.tuning.noise:.1%}; journal {outcome.tuning.journal.uri}"),
                style="dim",
                soft_wrap=True,
            )
    outcomes = [answer.outcome for answer in result.answers if answer.outcome.tuning is None]
    failures = [(f"{outcome.region} {outcome.place}", outcome.failure) for outcome in outcomes]
    failures += [(engine.place, engine.failure) for engine in result.refused]
    for where, failure in failures:
        if failure is not None:
            print_failure(console, failure, where)
    if tuned:
        console.print("what was tuned is published by the next: regiolect run MODEL", soft_wrap=True)


def _compared(first: Path, second: Path) -> DeviceComparison:
    from regiolect.tune.compare import compare, read_site

    return compare(read_site(first), read_site(second))


def _print_comparison(comparison: DeviceComparison) -> None:
    from rich.table import Table

    from regiolect.cli.terminal import Terminal, coloured, shown
    from regiolect.tune import words

    console = Terminal(width=None if sys.stdout.isatty() else 160)
    table = Table()
    for name in ("batch", "settings", comparison.first, comparison.second, "ratio"):
        table.add_column(shown(name), overflow="fold", justify="left" if name == "settings" else "right")
    for point in comparison.points:
        table.add_row(
            str(point.batch),
            shown(words.settings(point.configuration)),
            f"{point.first_ms:.3g} ms",
            f"{point.second_ms:.3g} ms",
            f"{point.ratio:.3f}",
        )
    console.print(table)
    for note in comparison.notes:
        console.print(shown(note), style="dim", soft_wrap=True)
    colour = "red" if comparison.slower is not None else "green"
    console.print(coloured(colour, comparison.summary()), soft_wrap=True)
