"""Which kinds of things are read in which way; what a class says of its objects, and what an object keeps: read without
running any code of theirs."""

from __future__ import annotations

import datetime
import enum
import functools
import operator
import statistics
import string
import struct
import sys
import uuid
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import (
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)
from typing import Any

from regiolect.identity.defined_in import (
    is_made,
    is_others,
    is_standard,
    is_users,
    lineage,
    namespace,
    place_of,
    static,
)

MOMENTS: tuple[Any, ...] = (datetime.datetime, datetime.date, datetime.time)
# The narrower first: an ordered dict keeps its order by itself.
HOLDERS: tuple[Any, ...] = (tuple, list, deque, set, frozenset, OrderedDict, dict, MappingProxyType)
_DICTS: tuple[dict[str, str], ...] = ({}, OrderedDict())
HOLDERS += tuple(type(view) for each in _DICTS for view in (each.keys(), each.values(), each.items()))
# Methods of classes that are written in C, as `str.lower` is.
METHODS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
# Those that call what they hold.
CALLS: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("partial", functools.partial, ("func", "args", "keywords")),
    ("partial method", functools.partialmethod, ("func", "args", "keywords")),
    ("method", MethodType, ("__func__", "__self__")),
    ("property", property, ("fget", "fset", "fdel")),
    ("property", functools.cached_property, ("func",)),
)
# Those that say by themselves what they are made again from.
MADE_AGAIN = (slice, operator.itemgetter, operator.attrgetter, operator.methodcaller)
# Classes of the standard library that keep there what they are made with. Others may keep what they do just now.
SHOWN: tuple[tuple[type, tuple[str, ...]], ...] = (
    (ChainMap, ("maps",)),
    (UserDict, ("data",)),
    (UserList, ("data",)),
    (UserString, ("data",)),
    (string.Template, ("template",)),
    (statistics.NormalDist, ("_mu", "_sigma")),
    (struct.Struct, ("format",)),
    (uuid.UUID, ("int",)),
)


class Kind:
    """What is asked of a class once, and not with each of its objects.

    Attributes:
        made, standard, others: whether a call made it, it is the standard library's, or an installed package's.
        extends: whether it is the user's own, made of one whose values count.
        frozen: whether it is a frozen dataclass.
        slots: members that its objects have, with what gives their values.
    """

    def __init__(self, kind: type) -> None:
        self.made, self.standard, self.others = is_made(kind), is_standard(kind), is_others(kind)
        place = place_of(kind)
        # No class that is written in Python is without the flag of the heap, and a member of an enum names its own.
        on_heap = bool(kind.__flags__ & 1 << 9) and not issubclass(kind, enum.Enum)
        self.extends = on_heap and place is not None and is_users(place[1])
        self.frozen = bool(getattr(static(kind, "__dataclass_params__"), "frozen", False))
        slots = ((each, *slot) for each in lineage(kind) for slot in namespace(each).items())
        # Where things lie within functions that are written in C, as `__vectorcalloffset__` tells, is an address.
        self.slots = [
            (f"{each.__name__}.{name}", slot)
            for each, name, slot in slots
            if type(slot) is MemberDescriptorType and not name.endswith("offset__")
        ]


def attributes(value: object, slots: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, object]]:
    """Those of an object that are its own, in slots too. Properties are not run."""
    # One that has none may answer to the name all the same, by code of its own.
    with suppress(AttributeError):
        yield from object.__getattribute__(value, "__dict__").items()
    for name, slot in slots:
        # Nothing may have been put there.
        with suppress(AttributeError):
            yield name, slot.__get__(value)


def kept(value: object, base: type, name: str) -> object:
    """What a class of Python's own keeps under a name, whatever one that is made of it says."""
    slot = namespace(base).get(name)
    return object.__getattribute__(value, "__dict__").get(name) if slot is None else slot.__get__(value)


def content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def globals_of(function: FunctionType) -> dict[str, object]:
    """What a function finds under the names that it looks up, where they are those of no module."""
    held, waiting = function.__globals__, [function.__code__]
    if getattr(sys.modules.get(held.get("__name__", "")), "__dict__", None) is held:
        return {}
    names = set[str]()
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting += [each for each in code.co_consts if type(each) is CodeType]
    return {f"global {name}": held[name] for name in names if name in held}
