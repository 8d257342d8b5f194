"""`regiolect pools`: the product's work pools and deployments on a Prefect server.

What these commands do is found by name: this package may not depend on the orchestrator that runs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol

import typer

from regiolect.cli.options import Policies, settings_with
from regiolect.errors import OrchestratorError

pools_app = typer.Typer(
    help="Work pools and deployments on a Prefect server.", no_args_is_help=True, rich_markup_mode=None
)


class PoolType(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"


class Change(Protocol):
    """What became of one thing on the server."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def done(self) -> str: ...
    @property
    def detail(self) -> str: ...


@pools_app.command("apply")
def pools_apply(
    pool_type: Annotated[PoolType, typer.Option("--type", help="Type of pools that do not exist yet.")] = (
        PoolType.PROCESS
    ),
    job_templates: Annotated[
        Path | None,
        typer.Option("--job-templates", help="Folder of base job templates, <type>.json, e.g. infra/work_pools."),
    ] = None,
    policies: Policies = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete deployments of regions and targets that the policies lost.")
    ] = False,
) -> None:
    """Create or update pools, queues, deployments and the watch over runs, on the server at PREFECT_API_URL.

    Models offered in the forms: installed entry points of group regiolect.models, and those in REGIOLECT_MODELS.
    """
    import os

    from regiolect.network import require_prefect
    from regiolect.orchestrator import flows_module
    from regiolect.policy import PolicyBook

    settings = settings_with(policies)
    book = PolicyBook(settings.policies)
    server = os.environ.get("PREFECT_API_URL")
    if not server:
        raise OrchestratorError(
            expected="the address of a Prefect server in PREFECT_API_URL",
            found="nothing",
            remedy="start one with `regiolect up`, or set PREFECT_API_URL=http://<host>:4200/api",
        )
    require_prefect(server, "start one with `regiolect up`")
    changes: Iterable[Change] = flows_module("deploy.pools").apply(
        book, settings, pool_type.value, job_templates, prune
    )
    _print(changes)
    if not settings.known_models():
        typer.echo("no model is known here, so the forms take any text: list addresses in REGIOLECT_MODELS")


@pools_app.command("write")
def pools_write(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("infra/prefect.yaml"),
    policies: Policies = None,
) -> None:
    """Write the deployments for `prefect deploy`, which can make them in process pools that exist."""
    from regiolect.integrity import write_atomic
    from regiolect.orchestrator import flows_module
    from regiolect.policy import PolicyBook

    settings = settings_with(policies)
    text: str = flows_module("deploy.deployments").prefect_yaml(PolicyBook(settings.policies), settings)
    write_atomic(file, text.encode())
    typer.echo(file)


def _print(changes: Iterable[Change]) -> None:
    """One line per thing, and how many of each in the end."""
    from regiolect.cli.terminal import Terminal, coloured, shown

    console = Terminal(soft_wrap=True)
    colours = {"created": "green", "updated": "yellow", "deleted": "red", "obsolete": "red", "unchanged": "dim"}
    counts: Counter[str] = Counter()
    for change in changes:
        counts[change.done] += 1
        line = f"{change.kind:<10} {change.name}" + (f" ({change.detail})" if change.detail else "")
        console.print(coloured(colours[change.done], f"{change.done:<9}"), shown(line))
    console.print(", ".join(f"{count} {done}" for done, count in counts.items()))
