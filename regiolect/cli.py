"""The command line. Commands that answer at once import nothing heavy and start no server.

Exit codes: 0 all well; 1 a region was refused, failed, left inconclusive or could not be registered, or a drill got
through; 2 the request itself was wrong; 3 `plan --exit-code` found work; 130 interrupted, 143 by SIGTERM.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from regiolect import __version__
from regiolect.audit_cli import audit
from regiolect.doctor_cli import doctor
from regiolect.errors import RegiolectError
from regiolect.errors.output import LAYOUT, printable, redact_output
from regiolect.host.interrupts import answering
from regiolect.keys_cli import keys_app
from regiolect.policies_cli import policies_diff
from regiolect.pools_cli import pools_app
from regiolect.promote_cli import promote
from regiolect.study_cli import study_app
from regiolect.tune_cli import tune

Model = Annotated[str, typer.Argument(help="The model: package.module:NAME of its ModelSpec, or an entry point.")]
Regions = Annotated[str, typer.Option("--regions", "-r", help="Regions, separated by commas; default: all.")]
Targets = Annotated[str, typer.Option("--targets", "-t", help="Targets, separated by commas; default: all.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]
Policies = Annotated[Path | None, typer.Option("--policies", help="Folder of region policies; default: built in.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every step, and what the libraries log.")]
Force = Annotated[bool, typer.Option("--force", help="Build again what did not change.")]

app = typer.Typer(
    name="regiolect",
    help="One trained model in; one calibrated, gated and registered engine per region out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
policies_app = typer.Typer(
    help="List, show, check and compare region policies.", no_args_is_help=True, rich_markup_mode=None
)
policies_app.command("diff")(policies_diff)
app.add_typer(policies_app, name="policies")
app.add_typer(keys_app, name="keys")
app.add_typer(pools_app, name="pools")
app.add_typer(study_app, name="study")
app.command()(doctor)
app.command()(audit)
app.command()(tune)
app.command()(promote)


def main() -> None:
    """Entry point of the `regiolect` command."""
    redact_output()
    try:
        answering(app)
    except RegiolectError as error:
        from regiolect.console import print_error

        print_error(error)
        sys.exit(error.exit_code)
    # What nothing foresaw, of whichever library: with its traceback, for it is a defect, but as readable as the rest.
    except Exception as error:  # noqa: BLE001
        from regiolect.console import print_unforeseen

        print_unforeseen(error)
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"regiolect {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    """Shared options."""


@app.command()
def run(
    model: Model,
    regions: Regions = "",
    targets: Targets = "",
    json_file: JsonFile = None,
    policies: Policies = None,
    force: Force = False,
    drills: Annotated[bool, typer.Option("--drills", help="Also try three engines that must be refused.")] = False,
    verbose: Verbose = False,
) -> None:
    """Build, judge and register an engine for every region; what did not change is not built again.

    Example: regiolect run examples.fashion:MODEL --regions eu,de --json result.json
    """
    from regiolect.console import print_release, watching
    from regiolect.integrity import write_atomic
    from regiolect.orchestrator import run_release

    settings = _use(policies)
    if json_file is not None:
        # Found out now rather than after the release.
        write_atomic(json_file, b"{}")
    with watching(verbose):
        result = run_release(settings, model, _split(regions), targets=_split(targets), force=force, drills=drills)
    code = print_release(result)
    if json_file is not None:
        write_atomic(json_file, result.model_dump_json(indent=2).encode())
    raise typer.Exit(code)


@app.command()
def nightly(
    models: Annotated[list[str] | None, typer.Argument(help="Models; default: all that are known.")] = None,
    regions: Regions = "",
    json_file: JsonFile = None,
    policies: Policies = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be released.")] = False,
    verbose: Verbose = False,
) -> None:
    """Release every model wherever something changed; what did not change is left alone.

    A Prefect server runs it by itself, in each region's own night, once `regiolect pools apply` was said.
    """
    from regiolect.console import print_nightly, watching
    from regiolect.integrity import write_atomic
    from regiolect.orchestrator import run_nightly

    settings = _use(policies)
    with watching(verbose):
        result = run_nightly(settings, models or None, _split(regions), dry_run=dry_run)
    if json_file is not None:
        write_atomic(json_file, result.model_dump_json(indent=2).encode())
    raise typer.Exit(print_nightly(result))


@app.command()
def plan(
    models: Annotated[list[str] | None, typer.Argument(help="Models; default: all that are known.")] = None,
    regions: Regions = "",
    targets: Targets = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole plan as JSON, and nothing else.")] = False,
    policies: Policies = None,
    force: Force = False,
    tell_work: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 if anything is to be built, rebuilt, promoted or retired.")
    ] = False,
) -> None:
    """Say what `run` would build, rebuild, promote, reuse or refuse, what is to be retired, and why. Changes nothing.

    Exit code 0; 1 if something is refused, a model cannot be planned or the registry does not tell what is served; 2 if
    the request was wrong. With --exit-code, 3 if there is work, whatever is refused beside it, so that 0 means: nothing
    to do. Without it work is no news to a script that goes on to `run`.
    """
    from regiolect.console import plan_exit_code, print_plans
    from regiolect.planning import document_of, plan_models_here
    from regiolect.registry import Registry

    settings = _use(policies)
    registry = Registry(settings.tracking_uri, settings.artifact_root, keyring=settings.keyring())
    plans = plan_models_here(
        settings,
        models or (),
        _split(regions),
        targets=_split(targets),
        force=force,
        champions=registry.champions,
    )
    if as_json:
        typer.echo(printable(document_of(plans).model_dump_json(indent=2), LAYOUT))
    else:
        print_plans(plans)
    raise typer.Exit(plan_exit_code(plans, tell_work))


@app.command()
def show(
    engine: Annotated[
        str, typer.Argument(help="MODEL-REGION, MODEL-REGION@ALIAS, a bundle's folder, or the start of a build key.")
    ],
) -> None:
    """Say what an engine is: region, precision, what executes, calibration, gate figures, whether its bytes are those
    that were approved, and whether it runs on this machine."""
    from regiolect.console import print_engine
    from regiolect.inspect_engine import find_engine

    print_engine(find_engine(engine, _use(None)))


@app.command()
def up(
    only: Annotated[
        str, typer.Option("--only", help="Servers (postgres, s3, mlflow, prefect), by commas; default: all.")
    ] = "",
    status: Annotated[bool, typer.Option("--status", help="Start nothing: say how they are.")] = False,
    policies: Policies = None,
) -> None:
    """Bring up PostgreSQL, S3, MLflow and Prefect on this machine, and leave them running.

    What runs already is left alone. `regiolect down` stops them; their data and addresses stay.
    """
    from regiolect.console import watching
    from regiolect.servers.console import print_servers
    from regiolect.servers.local import LocalServers

    settings = _use(policies)
    servers = LocalServers(settings.home, settings.policies)
    with watching(verbose=False):
        found = servers.status() if status else servers.up(_split(only))
    raise typer.Exit(print_servers(found, servers.env_file))


@app.command()
def down() -> None:
    """Stop the servers that `regiolect up` started, cleanly."""
    from regiolect.servers.console import print_stopped
    from regiolect.servers.local import LocalServers

    settings = _use(None)
    print_stopped(LocalServers(settings.home, settings.policies).down())


@policies_app.command("list")
def policies_list(policies: Policies = None) -> None:
    """One line per region."""
    from regiolect.console import print_policies

    raise typer.Exit(print_policies(_book(policies)))


@policies_app.command("show")
def policies_show(
    region: Annotated[str, typer.Argument(help="The region's name.")],
    policies: Policies = None,
) -> None:
    """A region's policy with everything it inherits."""
    from regiolect.console import print_policy

    print_policy(_book(policies).load(region))


@policies_app.command("validate")
def policies_validate(policies: Policies = None) -> None:
    """Check every policy of the folder; all mistakes are listed."""
    from regiolect.console import print_policy_check

    raise typer.Exit(print_policy_check(_book(policies)))


@policies_app.command("copy")
def policies_copy(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
) -> None:
    """Copy the built-in policies and their schema into a folder of your own, as a start."""
    from regiolect.policy import copy_builtin

    for path in copy_builtin(folder):
        typer.echo(path)


@policies_app.command("schema")
def policies_schema(
    file: Annotated[Path, typer.Argument(help="Where to write the JSON schema for editors.")],
) -> None:
    """Write the JSON schema of policy files."""
    from regiolect.policy import write_schema

    write_schema(file)


def _split(names: str) -> list[str] | None:
    return [name.strip() for name in names.split(",") if name.strip()] or None


def _use(policies: Path | None) -> Any:
    """Settings, with --policies put where workers and tasks read it as well."""
    import os

    from regiolect.settings import load_settings

    if policies is not None:
        os.environ["REGIOLECT_POLICIES"] = str(policies.absolute())
    return load_settings()


def _book(policies: Path | None) -> Any:
    from regiolect.policy import PolicyBook

    return PolicyBook(_use(policies).policies)
