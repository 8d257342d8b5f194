"""`regiolect policies`: the regions' policies listed, shown, checked, copied, and a change of them reviewed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.exit_codes import listing_exit_code, review_exit_code, validation_exit_code
from regiolect.cli.options import JsonFile, Policies, Telling, policy_book, settings_with, tell

if TYPE_CHECKING:
    from regiolect.cli.terminal import Terminal
    from regiolect.policy.difference import RegionChange
    from regiolect.policy_review import EngineEffect, PolicyReview

policies_app = typer.Typer(
    help="List, show, check and compare region policies.", no_args_is_help=True, rich_markup_mode=None
)

_COLOURS = {
    "tightens": "green",
    "loosens": "yellow",
    "changes": "default",
    "refuse": "red",
    "unknown": "red",
    "retire": "magenta",
    "rebuild": "yellow",
    "build": "yellow",
    "nothing": "dim",
}
_COUNTED = {
    "refuse": "refused",
    "unknown": "unknown",
    "retire": "retired",
    "rebuild": "to rebuild",
    "build": "to build",
    "nothing": "as before",
}


@policies_app.command("diff", cls=Telling)
def policies_diff(
    old: Annotated[str, typer.Argument(help="A folder, a policy file, or a git revision such as HEAD~1.")],
    new: Annotated[str, typer.Argument(help="Likewise.")],
    json_file: JsonFile = None,
    policies: Annotated[
        Path | None,
        typer.Option("--policies", help="Folder that a revision is of, and whose parents a file extends."),
    ] = None,
) -> None:
    """Say what changes between two sets of policies, and which engines that refuses, retires or rebuilds.

    Engines are judged anew from their kept results, by the new policies; no model is loaded and nothing is changed.
    Exit code 0 if nothing differs, 1 if something does, 2 if a policy has mistakes.

    Example: regiolect policies diff HEAD~1 region_policies
    """
    from regiolect.policy_review import review
    from regiolect.progress import watching

    with watching(verbose=False):
        reviewed = review(old, new, settings_with(policies))
    tell(reviewed, json_file, lambda: _print(reviewed))
    raise typer.Exit(review_exit_code(reviewed))


def _print(reviewed: PolicyReview) -> None:
    from regiolect.cli.terminal import Terminal, shown
    from regiolect.report.words import counted

    console = Terminal(soft_wrap=True)
    of = f"{len(reviewed.regions)} of {counted(reviewed.compared, 'region')}"
    differ = f"{of} {'differs' if len(reviewed.regions) == 1 else 'differ'}" if reviewed.regions else "nothing differs"
    console.print(shown(f"{reviewed.old} -> {reviewed.new}: {differ}"))
    for region in reviewed.regions:
        console.print()
        _print_region(console, region)
    if reviewed.engines:
        console.print("\nengines")
    for engine in reviewed.engines:
        _print_engine(console, engine)
    counts: Counter[str] = Counter(engine.action for engine in reviewed.engines)
    if counts:
        console.print(", ".join(f"{counts[action]} {what}" for action, what in _COUNTED.items() if counts[action]))
    for note in reviewed.notes:
        console.print(f"note: {shown(note)}", style="dim")


def _print_region(console: Terminal, region: RegionChange) -> None:
    from regiolect.cli.terminal import coloured, shown
    from regiolect.policy.difference import worded

    change = "" if region.change == "changed" else f": {region.change}"
    console.print(coloured("bold", region.region), f"({shown(region.title)}){change}")
    for field in region.fields:
        inherited = f" (inherited from {field.inherited_from})" if field.inherited_from else ""
        line = f"{field.key}: {worded(field.key, field.old)} -> {worded(field.key, field.new)}{inherited}"
        console.print(coloured(_COLOURS[field.direction], f"  {field.direction:<8}"), shown(line))
    if region.change == "changed" and region.old_policy == region.new_policy:
        console.print("  no part of what an engine is: none is concerned", style="dim")


def _print_engine(console: Terminal, engine: EngineEffect) -> None:
    from regiolect.cli.terminal import coloured, shown
    from regiolect.contracts import place_of

    place = place_of(engine.target, engine.arithmetic)
    name = f"{engine.model} {engine.region} {place}" + (f", served as {engine.served}" if engine.served else "")
    console.print(coloured(_COLOURS[engine.action], f"  {engine.action:<8}"), shown(name))
    console.print(f"           {shown(engine.reason)}")


@policies_app.command("list", cls=Telling)
def policies_list(json_file: JsonFile = None, policies: Policies = None) -> None:
    """One line per region."""
    from regiolect.cli.policy_facts import listing_of
    from regiolect.cli.tables import print_policies

    listing = listing_of(policy_book(policies))
    tell(listing, json_file, lambda: print_policies(listing))
    raise typer.Exit(listing_exit_code([each.region for each in listing.policies if each.policy is None]))


@policies_app.command("show", cls=Telling)
def policies_show(
    region: Annotated[str, typer.Argument(help="The region's name.")],
    json_file: JsonFile = None,
    policies: Policies = None,
) -> None:
    """A region's policy with everything it inherits."""
    from regiolect.cli.tables import print_policy

    policy = policy_book(policies).load(region)
    tell(policy, json_file, lambda: print_policy(policy))


@policies_app.command("validate", cls=Telling)
def policies_validate(json_file: JsonFile = None, policies: Policies = None) -> None:
    """Check every policy of the folder; every mistake is listed once, and counted."""
    from regiolect.cli.policy_facts import check_of
    from regiolect.cli.tables import print_policy_check

    check = check_of(policy_book(policies))
    tell(check, json_file, lambda: print_policy_check(check))
    raise typer.Exit(validation_exit_code(check.unusable))


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
