"""Options that several commands take, and what they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[str, typer.Argument(help="The model: package.module:NAME of its ModelSpec, or an entry point.")]


Regions = Annotated[str, typer.Option("--regions", "-r", help="Regions, separated by commas; default: all.")]


Targets = Annotated[str, typer.Option("--targets", "-t", help="Targets, separated by commas; default: all.")]


JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]


Policies = Annotated[Path | None, typer.Option("--policies", help="Folder of region policies; default: built in.")]


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every step, and what the libraries log.")]


Force = Annotated[bool, typer.Option("--force", help="Build again what did not change.")]


def names_in(names: str) -> list[str] | None:
    return [name.strip() for name in names.split(",") if name.strip()] or None


def settings_with(policies: Path | None) -> Any:
    """Settings, with --policies put where workers and tasks read it as well."""
    import os

    from regiolect.settings import load_settings

    if policies is not None:
        os.environ["REGIOLECT_POLICIES"] = str(policies.absolute())
    return load_settings()


def policy_book(policies: Path | None) -> Any:
    from regiolect.policy import PolicyBook

    return PolicyBook(settings_with(policies).policies)
