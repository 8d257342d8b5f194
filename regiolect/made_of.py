"""What a thing is made of: the functions and classes whose code it runs, and the values that it was made with.

Looked at once, when a user states the thing: what it counts, caches or loads in use is no part of what it is, and must
not make it another one between a plan and the build. Nothing of it is run.

The values of one thing are the same in every process and on every machine that makes it in the same way: no address, no
order of a set, and no folder that lies elsewhere on another machine gets in.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import operator
import re
import zoneinfo
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from types import (
    BuiltinMethodType,
    CellType,
    ClassMethodDescriptorType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np

from regiolect.defined_in import Piece, bare, is_others, is_standard, place_of, wrapped_in

# Those of which `repr` says all, the narrower first.
_PLAIN: tuple[Any, ...] = (bool, int, float, complex, bytes, bytearray, type(None), type(...), range, np.dtype)
_PLAIN += (decimal.Decimal, fractions.Fraction, datetime.timedelta, datetime.timezone)
# Methods of classes that are written in C, as `str.lower` is.
_METHODS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
# Those that say by themselves what they are made again from.
_MADE_AGAIN = (slice, operator.itemgetter, operator.attrgetter, operator.methodcaller)
# What their `repr` says is all that they are, and they show it in no other way.
_NAMES_OF_TORCH = frozenset({"torch:dtype", "torch:device", "torch:layout"})
_DEEPEST = 40  # things within things that are looked into
_LONGEST = 200  # characters of a value that are kept as they are; the digest of a longer one stands for it


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """What a thing was made of when it was looked at.

    Attributes:
        thing: itself.
        name: `module:name` of the function or class that it is, or is an object of; empty where there is none.
        pieces: functions, classes and modules that it holds, itself included.
        settings: as text, what it was made with; empty for a function or class that was made with nothing.
    """

    thing: object
    name: str
    pieces: tuple[Piece, ...]
    settings: tuple[str, ...]


def made_of(thing: object, search: Iterable[str]) -> Made:
    """Look at a function, lambda, method, class or object, at a partial, or at what is decorated.

    Looked into are arguments of partials, variables and defaults of functions made by other functions, attributes of
    functions, and attributes of objects: of the user's own classes, of frozen dataclasses, and of whatever can be
    called. Of other packages' objects only the functions and classes that they hold count, and of the standard
    library's the class alone, as of anything whose values cannot be read (a tensor, an open file). What lies deeper
    than forty levels does not count. Of an absolute path the file's name counts, and nothing where it has no suffix, as
    a folder has none; the same holds for a text that leads into a folder of `search`. A project lies elsewhere on every
    machine, and which files a model is made of its spec lists.

    Args:
        search: folders in which modules are looked for, so that a project is in one of them.
    """
    reading, whole = _Reading(search), bare(thing)
    text = reading.text(thing)
    name = _named(whole) if isinstance(whole, FunctionType | type) else ""
    return Made(thing, name, tuple(reading.pieces), () if text == name else (text,))


class _Reading:
    def __init__(self, search: Iterable[str]) -> None:
        self.folders = _folders(tuple(search))
        self.pieces: list[Piece] = []
        self.names: dict[int, str] = {}
        self.texts: dict[int, str] = {}
        # Of what is gone another thing may get the identity.
        self.alive: list[object] = []
        self.depth = 0

    def text(self, value: object) -> str:
        """A value as text; what it holds goes into `pieces`."""
        plain = self._plain(value)
        if plain is not None:
            return plain
        if id(value) in self.texts:
            return self.texts[id(value)]
        if self.depth > _DEEPEST:
            return self._name(type(value))
        self.alive.append(value)
        # What holds itself is there, so deep.
        self.texts[id(value)] = f"<{self.depth}>"
        self.depth += 1
        found = self._text(value)
        self.depth -= 1
        self.texts[id(value)] = found if len(found) <= _LONGEST else _digest(found.encode())
        return self.texts[id(value)]

    def _plain(self, value: object) -> str | None:
        if isinstance(value, enum.Enum):
            return f"{self._name(type(value))}.{value.name}"
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, zoneinfo.ZoneInfo):
            return f"zone {value.key!r}"
        if isinstance(value, np.generic):
            return f"{value.dtype.str} {_digest(value.tobytes())}"
        if isinstance(value, str):
            given = str.__str__(value)
            within = given.startswith("/") and any(PurePath(given).is_relative_to(folder) for folder in self.folders)
            found = _path(PurePath(given)) if within else repr(given)
        else:
            kind = next((kind for kind in _PLAIN if isinstance(value, kind)), None)
            if kind is None:
                return None
            # Of a class that is made of one, whose own `repr` may say anything.
            found = str(kind.__repr__(value))
        return found if len(found) <= _LONGEST else _digest(found.encode(errors="surrogateescape"))

    def _text(self, value: object) -> str:
        if isinstance(value, PurePath):
            return _path(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, re.Pattern):
            return f"pattern({self.text(value.pattern)}, {value.flags})"
        if isinstance(value, (tuple, list, deque)):
            return self._listed(value, map(self.text, value))
        if isinstance(value, (set, frozenset)):
            return self._listed(value, sorted(map(self.text, value)))
        if isinstance(value, (dict, MappingProxyType)):
            return self._listed(value, self._pairs(value))
        if isinstance(value, (SimpleNamespace, argparse.Namespace)):
            return self._listed(value, ())
        if isinstance(value, _MADE_AGAIN):
            return self.text(value.__reduce__())
        return self._code(value)

    def _code(self, value: object) -> str:
        if isinstance(value, functools.partial):
            return f"partial{self.text((value.func, value.args, value.keywords))}"
        if isinstance(value, MethodType):
            return f"method{self.text((value.__func__, value.__self__))}"
        if isinstance(value, (BuiltinMethodType, MethodWrapperType)):
            own = value.__self__
            given = own.__name__ if isinstance(own, ModuleType) else self.text(own)
            return f"{value.__qualname__}({given})"
        if isinstance(value, _METHODS):
            return f"{self.text(value.__objclass__)}.{value.__name__}"
        if isinstance(value, np.ufunc):
            return f"ufunc {value.__name__}"
        if isinstance(value, (staticmethod, classmethod)):
            return self.text(value.__func__)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            self.pieces.append(value)
            return value.__name__
        return self._object(value)

    def _function(self, function: FunctionType) -> str:
        called = self._name(function)
        held: dict[str, object] = dict(vars(function))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held |= {f"variable {name}": _content(cell) for name, cell in cells}
        # Those of a function that stands in a file by itself stand there as well.
        if _is_made(function):
            held |= {"defaults": function.__defaults__, "keywords": function.__kwdefaults__}
        return _with(called, self._pairs({key: each for key, each in held.items() if each is not None}))

    def _class(self, kind: type) -> str:
        name = self._name(kind)
        if not _is_made(kind):
            return name
        # What Python and libraries keep under such names, but for methods, may hold addresses (pydantic's schemas do).
        names = [key for key, each in vars(kind).items() if not key.startswith("__") or isinstance(each, FunctionType)]
        held = {key: vars(kind)[key] for key in names}
        return _with(name, [*map(self.text, kind.__bases__), *self._pairs(held)])

    def _object(self, value: object) -> str:
        kind = type(value)
        name, wrapped = self.text(kind), wrapped_in(value)
        if name in _NAMES_OF_TORCH:
            return repr(value)
        held: dict[str, object] = {} if is_standard(kind) else dict(_attributes(value))
        if wrapped is not None:
            held["__wrapped__"] = wrapped
        pairs = self._pairs(held)
        # The attributes of a client, a session or a pool say what it does just now, not what it is.
        frozen = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
        return _with(name, pairs) if frozen or callable(value) or not is_others(kind) else name

    def _listed(self, value: object, texts: Iterable[str]) -> str:
        return _with(self._name(type(value)), [*texts, *self._pairs(dict(_attributes(value)))])

    def _pairs(self, held: Mapping[Any, object]) -> list[str]:
        return sorted(f"{self.text(key)}: {self.text(each)}" for key, each in held.items())

    def _array(self, array: np.ndarray[Any, Any]) -> str:
        if isinstance(array, np.ma.MaskedArray):
            return f"masked {self._array(array.data)} {self._array(np.ma.getmaskarray(array))}"
        if array.dtype.hasobject:
            return f"array {array.shape} {self.text(array.tolist())}"
        try:
            kind = str(array.dtype.descr)
        except ValueError:
            # Fields that lie upon each other, or in another order.
            kind = repr(array.dtype)
        return f"array {kind} {array.shape} {_digest(_bytes(array))}"

    def _name(self, piece: FunctionType | type) -> str:
        # A class may say itself what it equals.
        if id(piece) not in self.names:
            self.names[id(piece)] = _named(piece)
            self.pieces.append(piece)
        return self.names[id(piece)]


@functools.lru_cache(maxsize=4)
def _folders(search: tuple[str, ...]) -> tuple[Path, ...]:
    # Everything is in the topmost one.
    return tuple(each for entry in search for each in (Path(entry), Path(entry).resolve()) if each.name)


def _with(name: str, texts: Iterable[str]) -> str:
    """`name(text, text)`, or the name alone."""
    listed = ", ".join(texts)
    return f"{name}({listed})" if listed else name


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    """Those of an object that are its own, in slots too. Properties are not run."""
    # One that has none may answer to the name all the same, by code of its own.
    with suppress(AttributeError):
        yield from object.__getattribute__(value, "__dict__").items()
    for kind in type(value).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, MemberDescriptorType):
                try:
                    yield f"{kind.__name__}.{name}", slot.__get__(value)
                except AttributeError:
                    # Nothing was put there.
                    continue


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_made(piece: FunctionType | type) -> bool:
    """Whether a function or class was made by a function, which may have given it values from elsewhere."""
    return "<" in piece.__qualname__


def _path(path: PurePath) -> str:
    if not path.is_absolute():
        return f"path {str(path)!r}"
    return f"path to {path.name!r}" if path.suffix else "path to a folder"


def _bytes(array: np.ndarray[Any, Any]) -> bytes | memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.nbytes else b""


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _named(piece: FunctionType | type) -> str:
    place = place_of(piece)
    # Nothing else sets two lambdas of a file apart.
    line = ""
    if isinstance(piece, FunctionType) and piece.__name__ == "<lambda>":
        line = f" in line {piece.__code__.co_firstlineno}"
    return f"{place[0] if place else piece.__module__}:{piece.__qualname__}{line}"
