"""`regiolect diff`: what differs between two engines, or between two versions of a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.options import JsonFile, settings_with, tell

if TYPE_CHECKING:
    from regiolect.cli.difference_facts import EngineComparison, EngineDifference
    from regiolect.cli.terminal import Terminal

Named = Annotated[
    str, typer.Argument(help="MODEL-REGION@ALIAS, MODEL-REGION/NUMBER, a bundle's folder, or a build key's start.")
]


def diff(first: Named, second: Named, json_file: JsonFile = None) -> None:
    """Say what differs between two engines: what they were built from, precision, calibration, accuracy, speed, size.

    Of two versions each place is compared. Speed is what was measured where each was built.

    Example: regiolect diff fashion-eu/3 fashion-eu@champion
    """
    from regiolect.cli.difference_facts import compare_engines
    from regiolect.progress import watching

    with watching(verbose=False):
        difference = compare_engines(first, second, settings_with(None))
    tell(difference, json_file, lambda: print_difference(difference))


def print_difference(difference: EngineDifference) -> None:
    """A table for each pair of engines, and above it what their build keys differ in."""
    from regiolect.cli.terminal import out, shown

    console = out()
    for pair in difference.engines:
        _print_pair(console, pair)
    for place in difference.alone:
        console.print(f"only in {shown(place)}", soft_wrap=True)


def _print_pair(console: Terminal, pair: EngineComparison) -> None:
    from rich.table import Table

    from regiolect.cli.terminal import shown

    console.print(f"first    {shown(pair.first)}\nsecond   {shown(pair.second)}", soft_wrap=True)
    console.print(f"inputs   {shown(_inputs(pair))}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name in ("", "first", "second", "change"):
        table.add_column(name, overflow="fold", justify="right" if name == "change" else "left")
    for fact in pair.facts:
        same = "same" if fact.first == fact.second else fact.change
        table.add_row(*map(shown, (fact.name, fact.first, "" if same == "same" else fact.second, same)))
    console.print(table)


def _inputs(pair: EngineComparison) -> str:
    if pair.inputs is None:
        return "not known: what one of them was built from is not kept here"
    return ", ".join(each.words for each in pair.inputs) or "the same build"
