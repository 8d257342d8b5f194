"""Nothing of a thing is run to look at it, and looking takes seconds whatever it holds."""

from __future__ import annotations

import datetime
import enum
import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from regiolect.identity.made_of import made_of
from tests.unit.identity.held import load


def test_nothing_of_a_thing_is_run_to_look_at_it() -> None:
    class Loud:
        @property
        def width(self) -> Any:
            raise SystemExit

        def __getattr__(self, name: str) -> Any:
            raise SystemExit

        def __repr__(self) -> str:
            raise SystemExit

    assert made_of(Loud(), ()).name.endswith("Loud")


class Absent:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise SystemExit


class Endless(list[int]):
    def __iter__(self) -> Any:
        raise SystemExit


class Lazy(dict[str, int]):
    def items(self) -> Any:
        raise SystemExit


class Day(datetime.date):
    def isoformat(self) -> Any:
        raise SystemExit


class Colour(enum.Enum):
    RED = 1

    @property
    def name(self) -> Any:
        raise SystemExit


def gone() -> Any:
    class Held: ...

    return weakref.proxy(Held())


@pytest.mark.parametrize(
    "make",
    [Absent, gone, lambda: Endless([1]), lambda: Lazy(a=1), lambda: Day(2026, 1, 1), lambda: Colour.RED],
    ids=["proxy", "weak", "list", "dict", "date", "enum"],
)
def test_nothing_of_what_a_thing_holds_is_run_either(make: Callable[[], Any]) -> None:
    assert made_of(functools.partial(load, make()), ()).settings


def test_neither_a_metaclass_nor_a_property_under_a_name_of_pythons_is_run() -> None:
    class Loud(type):
        def __hash__(cls) -> int:
            raise SystemExit

        def __eq__(cls, other: object) -> bool:
            raise SystemExit

    class Quiet(metaclass=Loud):
        def __call__(self) -> None: ...

    class Part(functools.partial):  # type: ignore[type-arg]
        @property
        def func(self) -> Any:
            raise SystemExit

    assert made_of(functools.partial(load, Quiet()), ()).settings
    assert made_of(functools.partial(load, Part(load, 1)), ()).settings
    assert made_of(Part(load, 1), ()).settings != made_of(Part(load, 2), ()).settings


@pytest.mark.timeout(60)
def test_large_tables_are_read_in_seconds() -> None:
    tables = {f"token{number}": number for number in range(250_000)}, list(range(500_000))
    rows = [(number, "a") for number in range(50_000)]
    assert made_of(functools.partial(load, *tables, rows), sys.path).settings


@pytest.mark.timeout(20)
def test_a_hundred_thousand_names_of_files_are_read_in_seconds() -> None:
    names = [f"/data/photos/{number:06d}.png" for number in range(100_000)]
    assert made_of(functools.partial(load, names), sys.path).settings


def test_what_answers_to_every_name_is_not_asked() -> None:
    class Answering:
        __slots__ = ("width",)

        def __getattr__(self, name: str) -> Any:
            raise SystemExit

    assert made_of(Answering(), ()).name.endswith("Answering")


@pytest.mark.timeout(60)
def test_what_wraps_itself_comes_to_an_end() -> None:
    def itself() -> None: ...

    itself.__wrapped__ = itself  # type: ignore[attr-defined]
    assert made_of(itself, ()).name.endswith("itself")


@pytest.mark.timeout(60)
def test_objects_in_sets_that_know_each_other_in_too_many_ways_are_refused_in_seconds() -> None:
    class Node:
        next: set[Node]

    def ring(length: int) -> Node:
        nodes = [Node() for _ in range(length)]
        for number, node in enumerate(nodes):
            node.next = {nodes[(number + step) % length] for step in (1, 2)}
        return nodes[0]

    # Each of a set is read as if it were the first, and so is each that it holds.
    assert made_of(ring(8), ()).settings == made_of(ring(8), ()).settings
    with pytest.raises(ValueError, match="a list or a dict has an order"):
        made_of(ring(40), ())
