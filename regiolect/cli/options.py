"""Options that several commands take, and what they lead to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regiolect.policy import PolicyBook
    from regiolect.settings import Settings

Model = Annotated[str, typer.Argument(help="The model: package.module:NAME of its ModelSpec, or an entry point.")]
Regions = Annotated[str, typer.Option("--regions", "-r", help="Regions, separated by commas; default: all.")]
Targets = Annotated[str, typer.Option("--targets", "-t", help="Targets, separated by commas; default: all.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]
Policies = Annotated[Path | None, typer.Option("--policies", help="Folder of region policies; default: built in.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every step, and what the libraries log.")]
Force = Annotated[bool, typer.Option("--force", help="Build again what did not change.")]


def names_in(option: str) -> list[str] | None:
    """The names that stand in an option, separated by commas; None if it has none: all are meant."""
    return [name.strip() for name in option.split(",") if name.strip()] or None


def use_policies(policies: Path | None) -> None:
    """Put --policies where settings, workers and tasks read it."""
    if policies is not None:
        os.environ["REGIOLECT_POLICIES"] = str(policies.absolute())


def settings_with(policies: Path | None) -> Settings:
    """The settings, with --policies in place of what they say of policies."""
    from regiolect.settings import load_settings

    use_policies(policies)
    return load_settings()


def policy_book(policies: Path | None) -> PolicyBook:
    """The policies of that folder; None: of the settings' folder."""
    from regiolect.policy import PolicyBook

    return PolicyBook(settings_with(policies).policies)
