"""`regiolect history`: the versions of a registered model, why each was built, and who made which of them champion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.options import JsonFile, settings_with, tell

if TYPE_CHECKING:
    from regiolect.cli.history_facts import EngineChange, History, HistoryEntry
    from regiolect.contracts import RegisteredTarget, RegisteredVersion


def history(
    name: Annotated[str, typer.Argument(help="The registered model, MODEL-REGION.")],
    json_file: JsonFile = None,
) -> None:
    """Say of each version of a registered model what changed, what the gate said and who promoted it.

    The oldest comes first. What changed is told of builds whose records the region's store keeps; what decides of a
    champion is signed, and all else is what its tags tell.
    """
    from regiolect.cli.history_facts import history_of
    from regiolect.errors import UsageError
    from regiolect.progress import watching
    from regiolect.registry import Registry

    settings, name = settings_with(None), name.removeprefix("models:/")
    with watching(verbose=False):
        versions = Registry.of(settings).versions((name,))
    if not versions:
        raise UsageError(
            expected=f"a registered model {name!r} with versions",
            found="none",
            remedy="regiolect list tells what is registered; MLFLOW_TRACKING_URI or REGIOLECT_HOME names the registry",
        )
    region = versions[-1].region
    told = history_of(versions, settings.find_store(region) if region else None)
    tell(told, json_file, lambda: print_history(told))


def print_history(told: History) -> None:
    """A few lines for each version, which end between words."""
    from rich.table import Table

    from regiolect.cli.terminal import out, shown
    from regiolect.report.words import counted

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for entry in told.versions:
        for number, line in enumerate(_lines(entry)):
            table.add_row("" if number else str(entry.version.version), shown(line))
    console = out()
    console.print(table)
    console.print(f"{shown(told.name)}: {counted(len(told.versions), 'version')}", soft_wrap=True)


def _lines(entry: HistoryEntry) -> Iterator[str]:
    version = entry.version
    pointing = f", {', '.join(version.aliases)}" if version.aliases else ""
    yield f"registered {version.registered:%Y-%m-%d %H:%M} UTC{pointing}"
    yield _decided(version)
    for engine, change in zip(version.engines, entry.changes, strict=True):
        yield f"{engine.place}: {engine.precision}, {engine.backend}; {_gate(engine)}"
        yield f"  {_why(change)}"


def _decided(version: RegisteredVersion) -> str:
    """Who promoted it, or why it was held back."""
    if version.held is not None:
        return f"held back: {version.held}"
    who = f"{version.promoted_by}, because: {version.because}" if version.promoted_by else "a release"
    if version.champion and version.promoted is not None:
        return f"promoted by {who}; {version.promoted:%Y-%m-%d %H:%M} UTC, signed by {version.signed_by}"
    if "champion" in version.aliases:
        return "NOT PROMOTED by anybody whose signature counts here: `champion` was moved by hand"
    if version.promoted_by is not None:
        return f"promoted by {who}, as its tags tell; replaced since"
    return "promoted by a release, for nothing held it back; replaced since"


def _gate(engine: RegisteredTarget) -> str:
    from regiolect.contracts import UNITS, LossUnit

    if engine.loss is None or engine.loss_upper is None or engine.limit is None:
        return engine.decision or "no decision is told"
    unit = UNITS[LossUnit(engine.unit)] if engine.unit in set(LossUnit) else engine.unit
    figures = f"loss {engine.loss:+z.2f} {unit}, at most {engine.loss_upper:+z.2f}, limit {engine.limit:g} {unit}"
    return f"{engine.decision}: {figures}"


def _why(change: EngineChange) -> str:
    if change.since is None:
        return "the first for its place"
    if change.differences is None:
        return f"another build than in version {change.since}; what changed is not kept here"
    if not change.differences:
        return f"the build of version {change.since}"
    return f"changed since version {change.since}: {', '.join(each.words for each in change.differences)}"
