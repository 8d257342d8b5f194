"""`regiolect study`: research on a model's own data, embedded, without an orchestrator."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.options import (
    JsonFile,
    Model,
    Policies,
    Regions,
    Telling,
    Verbose,
    chosen_model,
    names_in,
    require_writable,
    settings_with,
    tell,
)
from regiolect.engines.listed import DEFAULT

if TYPE_CHECKING:
    from rich.text import Text

    from regiolect.cli.terminal import Terminal
    from regiolect.study import StudyResult

study_app = typer.Typer(
    help="Research on a model's own data; nothing of it is served.", no_args_is_help=True, rich_markup_mode=None
)


@study_app.callback()
def _root() -> None:
    """Research on a model's own data; nothing of it is served."""


@study_app.command("calibration", cls=Telling)
def study_calibration(
    seeds: Annotated[int, typer.Option("--seeds", "-n", help="Draws of calibration samples per region; 2 or more.")],
    model: Model = None,
    regions: Regions = "",
    backend: Annotated[str, typer.Option("--backend", help="What builds and runs the engines.")] = DEFAULT,
    method: Annotated[
        str | None,
        typer.Option("--method", help="How thresholds are chosen; default: as policies that state none."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", help="Calibration samples in a draw; default: half of the smallest set, at least 64."
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="A metric of the model's; default: the policies'.")
    ] = None,
    json_file: JsonFile = None,
    policies: Policies = None,
    verbose: Verbose = False,
) -> None:
    """Calibrate INT8 on each region, test on each, over several draws: what does local calibration save?

    Every cell and every draw is told. Engines are tested on the regions' selection sets; gate sets stay closed, and
    nothing is registered. Example: regiolect study calibration examples.fashion:MODEL --seeds 5
    """
    from regiolect.contracts import DEFAULT_METHOD, CalibrationMethod
    from regiolect.errors import InvalidSetting
    from regiolect.planning import load_model_spec
    from regiolect.policy import PolicyBook
    from regiolect.progress import watching
    from regiolect.study import run_study, write_study

    settings = settings_with(policies)
    if method not in (None, *CalibrationMethod):
        raise InvalidSetting(
            expected=f"a calibration method out of {', '.join(CalibrationMethod)}",
            found=repr(method),
            remedy="name one of those, or leave --method out",
        )
    spec, book = load_model_spec(chosen_model(model)), PolicyBook(settings.policies)
    require_writable(json_file)
    with watching(verbose):
        result = run_study(
            spec,
            book,
            seeds=seeds,
            regions=names_in(regions),
            backend=backend,
            method=DEFAULT_METHOD if method is None else CalibrationMethod(method),
            samples=samples,
            metric=metric,
        )
    result = write_study(result, settings.home / "reports")
    tell(result, json_file, lambda: _print(result))


def _print(result: StudyResult) -> None:
    """The matrix, what it comes to, and where the rest is."""
    from rich.table import Table

    from regiolect.cli.terminal import Terminal, shown
    from regiolect.report.words import counted
    from regiolect.study import words

    console: Terminal = Terminal(width=None if sys.stdout.isatty() else 160)
    table = Table(
        title=f"{result.model}: points of {result.metric} lost against FP32, "
        f"mean of {counted(len(result.seeds), 'draw')}",
        title_justify="left",
    )
    table.add_column("calibrated on \\ tested on")
    names = [region.region for region in result.regions]
    for name in names:
        table.add_column(name, justify="right")
    for donor in names:
        table.add_row(donor, *(_square(result, donor, tested) for tested in names))
    console.print(table)
    key = "; ".join(f"{sign} {meaning}" for sign, meaning in words.key())
    console.print(shown(f"[+0.00] the region's own calibration; {key}"), style="dim", soft_wrap=True)
    for finding in words.findings(result):
        console.print(f"- {shown(finding)}", soft_wrap=True)
    if result.note:
        console.print(shown(result.note), style="dim", soft_wrap=True)
    console.print(f"report   {shown(result.report)}", soft_wrap=True)


def _square(result: StudyResult, donor: str, tested: str) -> Text:
    from regiolect.cli.terminal import coloured
    from regiolect.study import words

    loss, saving = words.points(result.cell(donor, tested).loss), result.saving(donor, tested)
    if saving is None:
        return coloured("bold", f"[{loss}]")
    sign = words.sign(saving)
    return coloured({"▲": "red", "▼": "cyan", "◆": "yellow"}.get(sign, ""), f"{loss}{sign or ' '}")
