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
import linecache
import operator
import re
import zoneinfo
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from types import (
    BuiltinMethodType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
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

from regiolect.identity.defined_in import Piece, bare, is_made, is_others, is_standard, is_users, place_of, wrapped_in

# Those of which `repr` says all, the narrower first.
_PLAIN: tuple[Any, ...] = (bool, int, float, complex, bytes, bytearray, type(None), type(...), range, np.dtype)
_PLAIN += (decimal.Decimal, fractions.Fraction, datetime.timedelta, datetime.timezone)
_MOMENTS: tuple[Any, ...] = (datetime.datetime, datetime.date, datetime.time)
# The narrower first here too: an ordered dict keeps its order by itself.
_HOLDERS: tuple[Any, ...] = (tuple, list, deque, set, frozenset, OrderedDict, dict, MappingProxyType)
# Methods of classes that are written in C, as `str.lower` is.
_METHODS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
# Those that call what they hold.
_CALLS: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("partial", functools.partial, ("func", "args", "keywords")),
    ("partial method", functools.partialmethod, ("func", "args", "keywords")),
    ("method", MethodType, ("__func__", "__self__")),
    ("property", property, ("fget", "fset", "fdel")),
    ("property", functools.cached_property, ("func",)),
)
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
        self.made: dict[int, bool] = {}
        self.texts: dict[int, str] = {}
        # Of what is gone another thing may get the identity.
        self.alive: list[object] = []
        self.depth = 0

    def text(self, value: Any) -> str:
        """A value as text; what it holds goes into `pieces`."""
        plain = self._plain(value)
        if plain is not None and not _extends(type(value)):
            return plain
        if id(value) in self.texts:
            return self.texts[id(value)]
        if self.depth > _DEEPEST:
            return self._name(type(value))
        self.alive.append(value)
        # What holds itself is there, so deep.
        self.texts[id(value)] = f"<{self.depth}>"
        self.depth += 1
        found = self._text(value) if plain is None else self._listed(value, [plain])
        self.depth -= 1
        self.texts[id(value)] = found if len(found) <= _LONGEST else _digest(found.encode())
        return self.texts[id(value)]

    # A value's own type is asked for, and methods of the classes named here: `isinstance`, and what a class overrides,
    # may run code of the user's, or of a proxy that stands for nothing yet.

    def _plain(self, value: Any) -> str | None:
        kind = type(value)
        if issubclass(kind, enum.Enum):
            return self._member(value)
        if issubclass(kind, _MOMENTS):
            return self._moment(value)
        if issubclass(kind, zoneinfo.ZoneInfo):
            return f"zone {value.key!r}"
        if issubclass(kind, np.generic) and value.dtype.names is None:
            return f"{value.dtype.str} {_digest(value.tobytes())}"
        if issubclass(kind, str):
            found = self._string(str.__str__(value))
        else:
            base = next((each for each in _PLAIN if issubclass(kind, each)), None)
            if base is None:
                return None
            found = _represented(base, value)
        return found if len(found) <= _LONGEST else _digest(found.encode(errors="surrogateescape"))

    def _member(self, value: Any) -> str:
        kind = type(value)
        name = f"{self._name(kind)}.{value._name_}"
        # Flags together may have no name, and what a function gave to members stands in no file.
        return f"{name} {self.text(value._value_)}" if value._name_ is None or self._is_made(kind) else name

    def _moment(self, value: Any) -> str:
        kind, zone = type(value), getattr(value, "tzinfo", None)
        base = next(each for each in _MOMENTS if issubclass(kind, each))
        # Those of other packages may be finer: pandas tells nanoseconds.
        found = value.isoformat() if kind is not base and is_others(kind) else base.isoformat(value)
        # An offset is all that the plain one is; two others may have it in common today.
        return str(found) if zone is None or type(zone) is datetime.timezone else f"{found} {self.text(zone)}"

    def _string(self, given: str) -> str:
        if given.startswith("/"):
            path = str(PurePath(given)) if "//" in given or "/." in given else given
            if f"{path}/".startswith(self.folders):
                return _path(PurePath(given))
        return repr(given)

    def _text(self, value: Any) -> str:
        kind = type(value)
        if issubclass(kind, PurePath):
            return _path(value)
        if issubclass(kind, (np.ndarray, np.void)):
            found = self._array(value if issubclass(kind, np.ndarray) else np.asarray(value))
            return self._listed(value, [found]) if _extends(kind) else found
        if issubclass(kind, re.Pattern):
            return f"pattern({self.text(value.pattern)}, {value.flags})"
        base = next((each for each in _HOLDERS if issubclass(kind, each)), None)
        if base is not None:
            return self._listed(value, self._held(base, value))
        if issubclass(kind, (SimpleNamespace, argparse.Namespace)):
            return self._listed(value, ())
        if issubclass(kind, _MADE_AGAIN):
            return self.text(value.__reduce__())
        return self._code(value)

    def _held(self, base: Any, value: Any) -> list[str]:
        """What a container holds, in its order where it has one."""
        if hasattr(base, "items"):
            return self._pairs(base.items(value))
        texts = [self.text(each) for each in base.__iter__(value)]
        if base is deque and value.maxlen is not None:
            texts.append(f"at most {value.maxlen}")
        return sorted(texts) if base in (set, frozenset) else texts

    def _code(self, value: Any) -> str:
        kind = type(value)
        for name, base, names in _CALLS:
            if issubclass(kind, base):
                return name + self.text(tuple(getattr(value, each) for each in names))
        if issubclass(kind, (BuiltinMethodType, MethodWrapperType)):
            own = value.__self__
            given = own.__name__ if issubclass(type(own), ModuleType) else self.text(own)
            return f"{value.__qualname__}({given})"
        if issubclass(kind, _METHODS):
            return f"{self.text(value.__objclass__)}.{value.__name__}"
        if issubclass(kind, np.ufunc):
            return f"ufunc {value.__name__}"
        if issubclass(kind, (staticmethod, classmethod)):
            return self.text(value.__func__)
        if issubclass(kind, FunctionType):
            return self._function(value)
        if issubclass(kind, type):
            return self._class(value)
        if issubclass(kind, ModuleType):
            self.pieces.append(value)
            return str(value.__name__)
        return self._object(value)

    def _function(self, function: FunctionType) -> str:
        called = self._name(function)
        held: dict[str, object] = dict(vars(function))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held |= {f"variable {name}": _content(cell) for name, cell in cells}
        # Those of a function that stands in a file by itself stand there as well.
        if self._is_made(function):
            keywords = function.__kwdefaults__
            held |= {"defaults": function.__defaults__, "keywords": keywords and dict(sorted(keywords.items()))}
        return _with(called, self._sorted({key: each for key, each in held.items() if each is not None}))

    def _class(self, kind: type) -> str:
        name = self._name(kind)
        if not self._is_made(kind):
            return name
        # What Python and libraries keep under such names, but for methods, may hold addresses (pydantic's schemas do).
        names = [key for key, each in vars(kind).items() if not key.startswith("__") or isinstance(each, FunctionType)]
        held = {key: vars(kind)[key] for key in names}
        return _with(name, [*map(self.text, kind.__bases__), *self._sorted(held)])

    def _object(self, value: object) -> str:
        kind = type(value)
        name, wrapped = self.text(kind), wrapped_in(value)
        if name in _NAMES_OF_TORCH:
            return repr(value)
        standard = is_standard(kind) and not self._is_made(kind)
        held: dict[str, object] = {} if standard else dict(_attributes(value))
        if wrapped is not None:
            held["__wrapped__"] = wrapped
        pairs = self._sorted(held)
        # The attributes of a client, a session or a pool say what it does just now, not what it is.
        frozen = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
        return _with(name, pairs) if frozen or callable(value) or not is_others(kind) else name

    def _listed(self, value: object, texts: Iterable[str]) -> str:
        kind = type(value)
        name = self.text(kind) if self._is_made(kind) else self._name(kind)
        return _with(name, [*texts, *self._sorted(dict(_attributes(value)))])

    def _sorted(self, held: Mapping[str, object]) -> list[str]:
        """Attributes and variables, whose order says nothing."""
        return sorted(self._pairs(held.items()))

    def _pairs(self, items: Iterable[tuple[object, object]]) -> list[str]:
        return [f"{self.text(key)}: {self.text(each)}" for key, each in items]

    def _array(self, array: np.ndarray[Any, Any]) -> str:
        if isinstance(array, np.ma.MaskedArray):
            return f"masked {self._array(array.data)} {self._array(np.ma.getmaskarray(array))}"
        if array.dtype.hasobject:
            fields = f"{array.dtype.descr} " if array.dtype.names else ""
            return f"array {fields}{array.shape} {self.text(array.tolist())}"
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

    def _is_made(self, piece: FunctionType | type) -> bool:
        if id(piece) not in self.made:
            self.made[id(piece)] = is_made(piece)
            self.alive.append(piece)
        return self.made[id(piece)]


@functools.lru_cache(maxsize=4)
def _folders(search: tuple[str, ...]) -> tuple[str, ...]:
    """How texts begin that lead into a folder of `search`, or are one."""
    # Everything is in the topmost one.
    return tuple(f"{each}/" for entry in search for each in (Path(entry), Path(entry).resolve()) if each.name)


def _represented(base: Any, value: Any) -> str:
    """By what the base says: a class that is made of it may say anything."""
    if base is int:
        # Of how many digits Python makes text is a setting of the process, at least 640.
        return int.__repr__(value) if value.bit_length() < 2_100 else hex(value)
    if base is range:
        given = (value.start, value.stop, *((value.step,) if value.step != 1 else ()))
    elif base is fractions.Fraction:
        given = (value.numerator, value.denominator)
    else:
        return str(base.__repr__(value))
    return f"{base.__name__}({', '.join(_represented(int, each) for each in given)})"


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


def _extends(kind: type) -> bool:
    """Whether a class is the user's own, made of one whose values count."""
    # No class that is written in Python is without the flag of the heap, and a member names its own.
    if not kind.__flags__ & 1 << 9 or issubclass(kind, enum.Enum):
        return False
    place = place_of(kind)
    return place is not None and is_users(place[1])


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
    line = _line(piece.__code__) if isinstance(piece, FunctionType) and piece.__name__ == "<lambda>" else ""
    return f"{place[0] if place else piece.__module__}:{piece.__qualname__}{line}"


def _line(code: CodeType) -> str:
    """Where a lambda stands: nothing else sets two of a file apart."""
    line = f" in line {code.co_firstlineno}"
    if linecache.getline(code.co_filename, code.co_firstlineno).count("lambda") < 2:
        return line
    starts = [(row, column) for row, end_row, column, end in code.co_positions() if (row, column) != (end_row, end)]
    return line + "".join(f", at {row}:{column}" for row, column in sorted(starts)[:1])
