"""What a thing is made of: the functions and classes whose code it runs, and the values that it was made with.

Looked at once, when a user states the thing: what it counts, caches or loads in use is no part of what it is, and must
not make it another one between a plan and the build. Nothing of it is run.

The values of one thing are the same in every process and on every machine that makes it in the same way: no address, no
order of a set, and no folder that lies elsewhere on another machine gets in.
"""

from __future__ import annotations

import argparse
import array
import dataclasses
import datetime
import enum
import io
import re
import sys
import zoneinfo
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import PurePath
from types import (
    BuiltinMethodType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from regiolect.identity.arrays import array_text, number_text
from regiolect.identity.defined_in import Piece, bare, is_made, lineage, namespace, place_of, wrapped_in
from regiolect.identity.kinds import (
    CALLS,
    HOLDERS,
    MADE_AGAIN,
    METHODS,
    MOMENTS,
    SHOWN,
    Kind,
    attributes,
    content,
    globals_of,
    kept,
)
from regiolect.identity.named import named
from regiolect.identity.values import (
    LONGEST,
    PLAIN,
    digest,
    folders_of,
    listed,
    path_text,
    represented,
    short,
    text_of,
)

# What their `repr` says is all that they are, and they show it in no other way.
_NAMES_OF_TORCH = frozenset({"torch:dtype", "torch:device", "torch:layout"})
_OF_DATACLASSES = "__create_fn__."  # where methods are made that fields say all of
_DEEPEST = 40  # things within things that are looked into
_MOST_NAMES = 1_000  # texts with a dot or a colon that may name modules; more of them are data
_MOST_AGAIN = 50_000  # readings of objects in sets that know each other, of which each has to be the first


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """What a thing was made of when it was looked at.

    Attributes:
        thing: itself.
        name: `module:name` of the function or class that it is, or is an object of; empty where there is none.
        pieces: functions, classes and modules that it holds, itself included.
        settings: as text, what it was made with; empty for a function or class that was made with nothing.
        names: texts in that, with a dot or a colon, which may name modules: `shop.net.Net`.
    """

    thing: object
    name: str
    pieces: tuple[Piece, ...]
    settings: tuple[str, ...]
    names: tuple[str, ...] = ()


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

    Raises:
        Exception: what code of the user's raises meanwhile; a ValueError of ours for what sets make too many to read.
    """
    reading, whole = _Reading(search), bare(thing)
    text = reading.text(thing)
    name = named(whole) if issubclass(type(whole), (FunctionType, type)) else ""  # type: ignore[arg-type]
    names = () if len(reading.words) > _MOST_NAMES else tuple(sorted(reading.words))
    return Made(thing, name, tuple(reading.pieces), () if text == name else (text,), names)


@dataclasses.dataclass(frozen=True, slots=True)
class _Read:
    """The text of a thing that was read.

    Attributes:
        text: itself.
        whole: whether it is the same wherever the thing stands.
        depth: if something of it lies too deep, where it stood: nearer, more of it counts.
    """

    text: str
    whole: bool
    depth: int


class _Reading:
    def __init__(self, search: Iterable[str]) -> None:
        self.folders = folders_of(search)
        self.pieces: list[Piece] = []
        self.names: dict[int, str] = {}
        self.made: dict[int, bool] = {}
        self.kinds: dict[int, Kind] = {}
        self.texts: dict[int, _Read] = {}
        # Those of `texts` that are not whole, with what was there before.
        self.partial: list[tuple[int, _Read | None]] = []
        self.rings = self.cuts = self.again = 0
        self.words: set[str] = set()
        # Of what is gone another thing may get the identity.
        self.alive: list[object] = []
        self.depth = 0

    def text(self, value: Any) -> str:
        """A value as text; what it holds goes into `pieces`."""
        kind = type(value)
        # Large tables are made of these.
        if kind is str:
            return self._words(value)
        if kind is int or kind is float:
            return short(represented(kind, value))
        plain = self._plain(value)
        if plain is not None and not self._kind(kind).extends:
            return plain
        before = self.texts.get(id(value))
        if before is not None and self.depth >= before.depth:
            self.rings += not before.whole
            self.cuts += before.depth > 0
            return before.text
        if self.depth > _DEEPEST:
            self.cuts += 1
            return self._name(kind)
        self.alive.append(value)
        rings, cuts = self.rings, self.cuts
        # What holds itself is there, so deep.
        self.texts[id(value)] = _Read(f"<{self.depth}>", False, 0)
        self.depth += 1
        found = short(self._text(value) if plain is None else self._listed(value, [plain]))
        self.depth -= 1
        whole = (rings, cuts) == (self.rings, self.cuts)
        self.texts[id(value)] = _Read(found, whole, self.depth if cuts < self.cuts else 0)
        if not whole:
            self.partial.append((id(value), before))
        return found

    def _unordered(self, values: Iterable[object]) -> list[str]:
        """Texts of what has no order: each as if it were the first, as things may know each other."""
        texts, start = [], len(self.partial)
        for each in values:
            texts.append(self.text(each))
            self.again += len(self.partial) - start
            if self.again > _MOST_AGAIN:
                raise ValueError("objects in sets know each other in too many ways: a list or a dict has an order")
            while len(self.partial) > start:
                key, before = self.partial.pop()
                if before is None:
                    del self.texts[key]
                else:
                    self.texts[key] = before
        return sorted(texts)

    # A value's own type is asked for, and methods of the classes named here: `isinstance`, and what a class overrides,
    # may run code of the user's, or of a proxy that stands for nothing yet.

    def _plain(self, value: Any) -> str | None:
        kind = type(value)
        if issubclass(kind, enum.Enum):
            return self._member(value)
        if issubclass(kind, MOMENTS):
            return self._moment(value)
        if issubclass(kind, zoneinfo.ZoneInfo):
            return f"zone {value.key!r}"
        if issubclass(kind, np.generic) and value.dtype.names is None:
            return number_text(value)
        if issubclass(kind, str):
            return self._words(str.__str__(value))
        # `Fraction` is an abstract class, which would ask for the hash of a metaclass.
        base = next((each for each in PLAIN if type.__subclasscheck__(each, kind)), None)
        return None if base is None else short(represented(base, value))

    def _words(self, value: str) -> str:
        if len(value) <= LONGEST and ("." in value or ":" in value):
            self.words.add(value)
        return short(text_of(value, self.folders))

    def _member(self, value: Any) -> str:
        kind = type(value)
        name = f"{self._name(kind)}.{value._name_}"
        # Flags together may have no name, and what a function gave to members stands in no file.
        return f"{name} {self.text(value._value_)}" if value._name_ is None or self._kind(kind).made else name

    def _moment(self, value: Any) -> str:
        kind, zone = type(value), getattr(value, "tzinfo", None)
        base = next(each for each in MOMENTS if issubclass(kind, each))
        # Those of other packages may be finer: pandas tells nanoseconds.
        found = value.isoformat() if kind is not base and self._kind(kind).others else base.isoformat(value)
        # An offset is all that the plain one is; two others may have it in common today.
        return str(found) if zone is None or type(zone) is datetime.timezone else f"{found} {self.text(zone)}"

    def _text(self, value: Any) -> str:
        kind = type(value)
        if issubclass(kind, PurePath):
            return path_text(value)
        if issubclass(kind, (np.ndarray, np.void)):
            return self._arrayed(value)
        if issubclass(kind, array.array):
            return self._listed(value, [value.typecode, digest(array.array.tobytes(value))])
        if kind is memoryview:
            return self._viewed(value)
        if kind is io.BytesIO or kind is io.StringIO:
            return self._listed(value, () if value.closed else (self.text(value.getvalue()),))
        if issubclass(kind, re.Pattern):
            return f"pattern({self.text(value.pattern)}, {value.flags})"
        base = next((each for each in HOLDERS if issubclass(kind, each)), None)
        if base is not None:
            return self._listed(value, self._held(base, value))
        if issubclass(kind, (SimpleNamespace, argparse.Namespace)):
            return self._listed(value, ())
        if issubclass(kind, MADE_AGAIN):
            return self.text(value.__reduce__())
        return self._code(value)

    def _held(self, base: Any, value: Any) -> list[str]:
        """What a container holds, in its order where it has one."""
        if hasattr(base, "items"):
            return self._pairs(base.items(value))
        if base is set or base is frozenset:
            return self._unordered(base.__iter__(value))
        texts = [self.text(each) for each in base.__iter__(value)]
        if base is deque and value.maxlen is not None:
            texts.append(f"at most {value.maxlen}")
        return texts

    def _code(self, value: Any) -> str:
        kind = type(value)
        for name, base, names in CALLS:
            if issubclass(kind, base):
                return name + self.text(tuple(kept(value, base, each) for each in names))
        if issubclass(kind, (BuiltinMethodType, MethodWrapperType)):
            own = value.__self__
            given = own.__name__ if issubclass(type(own), ModuleType) else self.text(own)
            return f"{value.__qualname__}({given})"
        if issubclass(kind, METHODS):
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
        if issubclass(kind, CodeType):
            return self._compiled(value)
        said = next((own["__qualname__"] for own in map(namespace, lineage(kind)) if "__qualname__" in own), None)
        return self._in_c(value) if callable(value) and type(said) is GetSetDescriptorType else self._object(value)

    def _function(self, function: FunctionType) -> str:
        called = self._name(function)
        held: dict[str, object] = dict(vars(function))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held |= {f"variable {name}": content(cell) for name, cell in cells}
        texts: list[str] = []
        if place_of(function) is None and not function.__code__.co_qualname.startswith(_OF_DATACLASSES):
            texts.append(self._compiled(function.__code__))
            held |= globals_of(function)
        # Those of a function that stands in a file by itself stand there as well.
        if self._is_made(function):
            keywords = function.__kwdefaults__
            held |= {"defaults": function.__defaults__, "keywords": keywords and dict(sorted(keywords.items()))}
        return listed(called, [*texts, *self._sorted({key: each for key, each in held.items() if each is not None})])

    def _class(self, kind: type) -> str:
        name = self._name(kind)
        if not self._is_made(kind):
            return name
        # What Python and libraries keep under such names, but for methods, may hold addresses (pydantic's schemas do).
        held = {
            key: each
            for key, each in namespace(kind).items()
            if not key.startswith("__") or key == "__call__" or type(each) is FunctionType
        }
        maker = self._kind(type(kind))
        makers = () if type(kind) is type or maker.standard or maker.others else (type(kind),)
        return listed(name, [*map(self.text, (*kind.__bases__, *makers)), *self._sorted(held)])

    def _object(self, value: object) -> str:
        kind = type(value)
        name, wrapped, facts = self.text(kind), wrapped_in(value), self._kind(kind)
        if name in _NAMES_OF_TORCH:
            return repr(value)
        standard = facts.standard and not facts.made
        shown = next((names for base, names in SHOWN if kind is base), ())
        held = {each: getattr(value, each) for each in shown} if standard else dict(attributes(value, facts.slots))
        if wrapped is not None:
            held["__wrapped__"] = wrapped
        pairs = self._sorted(held)
        # The attributes of a client, a session or a pool say what it does just now, not what it is.
        return listed(name, pairs) if facts.frozen or callable(value) or not facts.others else name

    def _in_c(self, value: Any) -> str:
        """A function that Cython or the like made, by its name."""
        module = sys.modules.get(value.__module__)
        if module is not None:
            self.pieces.append(module)
        held = {"defaults": getattr(value, "__defaults__", None), "keywords": getattr(value, "__kwdefaults__", None)}
        held |= dict(attributes(value, ()))
        return listed(f"{value.__module__}:{value.__qualname__}", self._sorted({k: v for k, v in held.items() if v}))

    def _compiled(self, code: CodeType) -> str:
        """What code does, as this version of Python compiles it."""
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        steps = (digest(code.co_code), digest(code.co_exceptiontable))
        return listed("code", [*steps, *map(self.text, (counts, *names, code.co_consts))])

    def _listed(self, value: object, texts: Iterable[str]) -> str:
        kind = type(value)
        facts = self._kind(kind)
        name = self.text(kind) if facts.made else self._name(kind)
        return listed(name, [*texts, *self._sorted(dict(attributes(value, facts.slots)))])

    def _sorted(self, held: Mapping[str, object]) -> list[str]:
        """Attributes and variables, whose order says nothing."""
        return sorted(self._pairs(held.items()))

    def _pairs(self, items: Iterable[tuple[object, object]]) -> list[str]:
        return [f"{self.text(key)}: {self.text(each)}" for key, each in items]

    def _arrayed(self, value: Any) -> str:
        kind = type(value)
        found = array_text(value, self.text)
        if self._kind(kind).extends:
            return self._listed(value, [found])
        # A matrix multiplies in another way; what maps a file is as good as an array.
        plain = kind is np.ndarray or kind is np.ma.MaskedArray or issubclass(kind, (np.void, np.memmap))
        return found if plain else f"{self._name(kind)} {found}"

    def _viewed(self, view: memoryview) -> str:
        # One that was let go shows nothing.
        with suppress(ValueError):
            return self._listed(view, [view.format, str(view.shape), digest(view.tobytes())])
        return self._name(memoryview)

    def _name(self, piece: FunctionType | type) -> str:
        # A class may say itself what it equals.
        if id(piece) not in self.names:
            self.names[id(piece)] = named(piece)
            self.pieces.append(piece)
        return self.names[id(piece)]

    def _is_made(self, piece: FunctionType | type) -> bool:
        if id(piece) not in self.made:
            self.made[id(piece)] = is_made(piece)
            self.alive.append(piece)
        return self.made[id(piece)]

    def _kind(self, kind: type) -> Kind:
        if id(kind) not in self.kinds:
            self.kinds[id(kind)] = Kind(kind)
            self.alive.append(kind)
        return self.kinds[id(kind)]
