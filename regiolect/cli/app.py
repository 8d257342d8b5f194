"""The command line. Commands that answer at once import nothing heavy and start no server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import regiolect
from regiolect.cli.audit import audit
from regiolect.cli.difference import diff
from regiolect.cli.doctor import doctor
from regiolect.cli.history import history
from regiolect.cli.init import init
from regiolect.cli.keys import keys_app
from regiolect.cli.listing import list_registered
from regiolect.cli.options import (
    Force,
    JsonFile,
    Model,
    Models,
    Policies,
    Regions,
    Targets,
    Telling,
    Verbose,
    chosen_model,
    names_in,
    require_writable,
    settings_with,
    tell,
)
from regiolect.cli.policies import policies_app
from regiolect.cli.pools import pools_app
from regiolect.cli.promote import promote
from regiolect.cli.servers import down, up
from regiolect.cli.study import study_app
from regiolect.cli.tune import tune
from regiolect.errors import RegiolectError
from regiolect.errors.output import redact_output
from regiolect.host.garbage import look_seldom
from regiolect.host.interrupts import answering

app = typer.Typer(
    name="regiolect",
    help="One trained model in; one calibrated, gated and registered engine per region out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(policies_app, name="policies")
app.add_typer(keys_app, name="keys")
app.add_typer(pools_app, name="pools")
app.add_typer(study_app, name="study")
app.command()(init)
app.command(cls=Telling)(doctor)
app.command(cls=Telling)(audit)
app.command("list", cls=Telling)(list_registered)
app.command(cls=Telling)(history)
app.command(cls=Telling)(diff)
app.command(cls=Telling)(tune)
app.command()(promote)
app.command(cls=Telling)(up)
app.command()(down)


def main() -> None:
    """Entry point of the `regiolect` command."""
    redact_output()
    look_seldom()
    try:
        answering(app)
    except RegiolectError as error:
        from regiolect.cli.tables import print_error

        print_error(error)
        sys.exit(error.exit_code)
    # What nothing foresaw, of whichever library: with its traceback, for it is a defect, but as readable as the rest.
    except Exception as error:  # noqa: BLE001
        from regiolect.cli.tables import print_unforeseen

        print_unforeseen(error)
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"regiolect {regiolect.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    """Shared options."""


@app.command(cls=Telling)
def run(
    model: Model = None,
    regions: Regions = "",
    targets: Targets = "",
    json_file: JsonFile = None,
    policies: Policies = None,
    force: Force = False,
    reviewed: Annotated[
        Path | None,
        typer.Option(
            "--plan", help="A plan that `plan --out` wrote, of MODEL if it is named: that very plan, or nothing."
        ),
    ] = None,
    drills: Annotated[bool, typer.Option("--drills", help="Also try three engines that must be refused.")] = False,
    verbose: Verbose = False,
) -> None:
    """Build, judge and register an engine for every region; what did not change is not built again.

    With --plan it does what was reviewed, or says by region and target what would differ now, and does nothing.

    Examples: regiolect run examples.fashion:MODEL --regions eu,de --json result.json
    or regiolect run --plan plan.json
    """
    from regiolect.cli.exit_codes import exit_code
    from regiolect.cli.releases import print_release

    require_writable(json_file)
    result = regiolect.run(
        # A reviewed plan names its own.
        model if reviewed is not None else chosen_model(model),
        regions=names_in(regions),
        targets=names_in(targets),
        force=force,
        plan=reviewed,
        drills=drills,
        policies=policies,
        verbose=verbose,
    )
    tell(result, json_file, lambda: print_release(result))
    raise typer.Exit(exit_code(result))


@app.command(cls=Telling)
def nightly(
    models: Models = None,
    regions: Regions = "",
    json_file: JsonFile = None,
    policies: Policies = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be released.")] = False,
    verbose: Verbose = False,
) -> None:
    """Release every model wherever something changed; what did not change is left alone.

    A Prefect server runs it by itself, in each region's own night, once `regiolect pools apply` was said.
    """
    from regiolect.cli.exit_codes import nightly_exit_code
    from regiolect.cli.releases import print_nightly
    from regiolect.orchestrator import run_nightly
    from regiolect.progress import watching

    require_writable(json_file)
    settings = settings_with(policies)
    with watching(verbose):
        result = run_nightly(settings, models or None, names_in(regions), dry_run=dry_run)
    tell(result, json_file, lambda: print_nightly(result))
    raise typer.Exit(nightly_exit_code(result))


@app.command(cls=Telling)
def plan(
    models: Models = None,
    regions: Regions = "",
    targets: Targets = "",
    json_file: JsonFile = None,
    policies: Policies = None,
    force: Force = False,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="Also keep the plan, of one model, in this file, for review and `run --plan`."),
    ] = None,
    tell_work: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 if anything is to be built, rebuilt, promoted or retired.")
    ] = False,
) -> None:
    """Say what `run` would build, rebuild, promote, reuse or refuse, what is to be retired, and why. Changes nothing.

    Exit code 0; 1 if something is refused, a model cannot be planned or the registry does not tell what is served; 2 if
    the request was wrong. With --exit-code, 3 if there is work, whatever is refused beside it, so that 0 means: nothing
    to do. Without it work is no news to a script that goes on to `run`.
    """
    from regiolect.cli.exit_codes import plan_exit_code
    from regiolect.cli.tables import print_plans
    from regiolect.orchestrator import bound, plan_all
    from regiolect.planning import ReleaseRequest, document_of, planned_alone, write_plan

    plans = plan_all(models or (), regions=names_in(regions), targets=names_in(targets), force=force, policies=policies)
    alone = planned_alone(plans) if out_file is not None else None
    tell(document_of(plans), json_file, lambda: print_plans(plans))
    if out_file is not None and alone is not None:
        asked = ReleaseRequest.of(alone.address, names_in(regions), names_in(targets), force=force)
        write_plan(out_file, bound(settings_with(policies), asked, alone))
    raise typer.Exit(plan_exit_code(plans, tell_work))


@app.command(cls=Telling)
def show(
    engine: Annotated[
        str,
        typer.Argument(
            help="MODEL-REGION, MODEL-REGION@ALIAS, MODEL-REGION/NUMBER, a bundle's folder, or a build key's start."
        ),
    ],
    json_file: JsonFile = None,
) -> None:
    """Say what an engine is: region, precision, what executes, calibration, gate figures, whether its bytes are those
    that were approved, and whether it runs on this machine."""
    from regiolect.cli.engine_facts import find_engine
    from regiolect.cli.tables import print_engine

    view = find_engine(engine, settings_with(None))
    tell(view.document(), json_file, lambda: print_engine(view))
