"""Where a person reads in a terminal: what others wrote is shown there, and none of it is obeyed.

A model's name or a tag is written by anyone who may write to the registry, and a server's error by the server. A
terminal would take signs of theirs for orders: to erase a line, to colour one, to turn its direction; and rich's markup
would style, link or lose what stands in brackets. So no text has markup here: a colour is given to a piece of a line.

    >>> from regiolect.cli.terminal import Terminal, coloured, shown
    >>> Terminal(width=40, color_system=None).print(coloured("red", "wrong"), shown("[link=a\nb] c"))
    wrong [link=a\\nb] c
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from regiolect.contracts import Failure
from regiolect.errors.output import LAYOUT, printable

_FIELDS = ("expected", "found", "remedy")


class Terminal(Console):
    """Rich's console without markup. Whatever is printed is `printable`, cells and titles of tables as well; lines and
    tabs stay."""

    def __init__(self, **how: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text, LAYOUT), **how)


def out() -> Terminal:
    """Where results go. Piped output gets room for whole rows instead of a table folded to 80 columns."""
    return Terminal(width=None if sys.stdout.isatty() else 200)


def err() -> Terminal:
    """Where errors go: lines as long as they are."""
    return Terminal(stderr=True, soft_wrap=True)


def shown(text: object) -> str:
    """What others wrote, to stand in a line: it begins none."""
    return printable(str(text))


def coloured(style: str, text: object) -> Text:
    """A piece of a line or a cell of a table, as `shown`, in a style of rich's."""
    return Text(shown(text), style)


def print_fields(console: Console, fields: Mapping[str, str], indent: str = "") -> None:
    """A name and what belongs to it on each line; what has several lines goes on below its beginning."""
    for name, told in fields.items():
        lines = f"\n{indent}{'':<10}".join(map(shown, told.split("\n")))
        console.print(f"{indent}{name:<9} {lines}", soft_wrap=True)


def print_failure(console: Console, failure: Failure, where: str = "", indent: str = "") -> None:
    """A failure as lines that a person can act on: whose it is and its kind, then what was expected, what was found and
    the remedy."""
    head = f"{where}: {failure.kind}" if where else failure.kind
    console.print(coloured("red", f"{indent}{head}"), soft_wrap=True)
    print_fields(console, {name: getattr(failure, name) for name in _FIELDS}, f"{indent}  ")
