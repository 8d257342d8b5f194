"""What a person sees of the local servers in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from regiolect.servers import orchestration
from regiolect.servers.local import Status
from regiolect.terminal import Terminal, shown


def print_servers(servers: Sequence[Status], env_file: Path) -> int:
    """A table of the servers, and the file that tells a shell of them. Returns 0 if all are well, 1 if not."""
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
        console.print(f"use them  source {env_file}", soft_wrap=True)
        # Never the passwords themselves: a terminal is copied and recorded.
        console.print(
            "log in    Prefect's pages: $PREFECT_API_AUTH_STRING, whole; MLflow's: $MLFLOW_TRACKING_USERNAME and "
            "$MLFLOW_TRACKING_PASSWORD",
            soft_wrap=True,
        )
    return 0 if all(server.problem is None for server in servers) else 1


def _state(server: Status) -> str:
    if server.problem is not None:
        return f"[red]{shown(server.problem)}[/red]"
    return "[green]runs[/green]" if server.seconds is None else f"[green]started in {server.seconds:.1f} s[/green]"


def print_stopped(names: Sequence[str]) -> None:
    """Which servers were stopped, and that workers were not."""
    said = f"stopped: {', '.join(names)}; their data stays" if names else "nothing was running"
    if orchestration.NAME in names:
        said += ". Workers go on and wait for it: end them where they were started"
    Terminal(soft_wrap=True).print(said)
