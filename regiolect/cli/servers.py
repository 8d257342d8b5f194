"""`regiolect up` and `regiolect down`: the local servers, and what a person sees of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.exit_codes import servers_exit_code
from regiolect.cli.options import JsonFile, Policies, named, names_in, settings_with, tell

if TYPE_CHECKING:
    from rich.text import Text

    from regiolect.servers.local import Status


def print_servers(servers: Sequence[Status], env_file: Path) -> None:
    """A table of the servers, and the file that tells a shell of them."""
    from rich.table import Table

    from regiolect.cli.terminal import Terminal, shown

    # Piped output gets room for whole rows.
    console = Terminal(width=None if sys.stdout.isatty() else 160)
    table = Table()
    for name in ("server", "address", "pid", "state", "log"):
        table.add_column(name, overflow="fold")
    for server in servers:
        table.add_row(
            server.name,
            server.address or "-",
            "-" if server.pid is None else str(server.pid),
            _state(server),
            str(server.log),
        )
    console.print(table)
    if env_file.exists():
        console.print(f"use them  source {shown(env_file)}", soft_wrap=True)
        # Never the passwords themselves: a terminal is copied and recorded.
        console.print(
            "log in    Prefect's pages: $PREFECT_API_AUTH_STRING, whole; MLflow's: $MLFLOW_TRACKING_USERNAME and "
            "$MLFLOW_TRACKING_PASSWORD",
            soft_wrap=True,
        )


def _state(server: Status) -> Text:
    from regiolect.cli.terminal import coloured

    if server.problem is not None:
        return coloured("red", server.problem)
    return coloured("green", "runs" if server.seconds is None else f"started in {server.seconds:.1f} s")


def print_stopped(names: Sequence[str]) -> None:
    """Which servers were stopped, and that workers were not."""
    from regiolect.cli.terminal import Terminal
    from regiolect.servers import orchestration

    line = f"stopped: {', '.join(names)}; their data stays" if names else "nothing was running"
    if orchestration.NAME in names:
        line += ". Workers go on and wait for it: end them where they were started"
    Terminal(soft_wrap=True).print(line)


def up(
    only: Annotated[
        str,
        typer.Option(
            "--only", help="Servers (postgres, s3, mlflow, prefect), by commas; default: all.", callback=named
        ),
    ] = "",
    status: Annotated[bool, typer.Option("--status", help="Start nothing: say how they are.")] = False,
    json_file: JsonFile = None,
    policies: Policies = None,
) -> None:
    """Bring up PostgreSQL, S3, MLflow and Prefect on this machine, and leave them running.

    What runs already is left alone. `regiolect down` stops them; their data and addresses stay.
    """
    from regiolect.progress import watching
    from regiolect.servers.local import LocalServers, ServersStatus

    settings = settings_with(policies)
    servers = LocalServers(settings.home, settings.policies)
    with watching(verbose=False):
        states = servers.status() if status else servers.up(names_in(only))
    status_now = ServersStatus(servers=tuple(states), env_file=servers.env_file)
    tell(status_now, json_file, lambda: print_servers(states, servers.env_file))
    raise typer.Exit(servers_exit_code(states))


def down() -> None:
    """Stop the servers that `regiolect up` started, cleanly."""
    from regiolect.servers.local import LocalServers

    settings = settings_with(None)
    print_stopped(LocalServers(settings.home, settings.policies).down())
