"""Where a function, class or module is defined, and whose the file is: the user's, an installed package's or ours."""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

# What takes part in every release has a digest of its own (`toolchain.own_code`).
_REGIOLECT = tuple(Path(__file__).parents[2] / name for name in ("regiolect", "data_checks", "tasks", "flows"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})

Piece = FunctionType | type | ModuleType
Module = tuple[str, Path]


# A thing's type is asked for, and never the thing: `isinstance` and `getattr` may run code of the user's.


def bare(thing: object) -> object:
    """The function or class that a thing is when what is around it is taken off; itself if it is neither."""
    seen: set[int] = set()
    # What wraps itself is what it is.
    while not issubclass(type(thing), type) and id(thing) not in seen:
        seen.add(id(thing))
        kind = type(thing)
        if issubclass(kind, functools.partial):
            thing = vars(functools.partial)["func"].__get__(thing)
        elif kind is MethodType:
            thing = MethodType.__func__.__get__(thing)
        elif (inner := wrapped_in(thing)) is not None:
            thing = inner
        elif kind is FunctionType:
            return thing
        else:
            return thing if kind.__module__ == "builtins" else kind
    return thing


def place_of(piece: Piece) -> Module | None:
    """Module and file of a function, class or module, as `file_of`; None if there is no file."""
    file: str | None
    if type(piece) is FunctionType:
        # Its `__module__` may be that of what it decorates.
        file, module = piece.__code__.co_filename, piece.__globals__
    else:
        own = piece if issubclass(type(piece), ModuleType) else sys.modules.get(piece.__module__)
        module = getattr(own, "__dict__", {})
        file = module.get("__file__")
    found = file_of(Path(file)) if file else None
    if found is None:
        return None
    name, spec = module.get("__name__", ""), module.get("__spec__")
    # What runs as a program has its name from its file.
    return (spec.name if spec else found.stem if name in ("", "__main__") else name), found


def file_of(path: Path) -> Path | None:
    """The file that a module's path leads to: itself, or the archive on `sys.path` that it is in."""
    return next((each for each in (path, *path.parents) if each.is_file()), None)


def own_name(function: FunctionType) -> str:
    """The name in a function's code: what `functools.wraps` makes has that of another under `__qualname__`."""
    place = place_of(function)
    # Which names the standard library gives, differs between versions of Python.
    known = place is not None and not _is_in_standard(place[1])
    return function.__code__.co_qualname if known else function.__qualname__


def is_made(piece: FunctionType | type) -> bool:
    """Whether a function or class was made by a function or by `exec`, which may have given it values."""
    place = place_of(piece)
    if "<" in piece.__qualname__:
        return True
    if type(piece) is FunctionType:
        return place is None or "<" in own_name(piece)
    if place is None:
        # Not one of those that are written in C, nor one of a program that Python was given as text.
        if not any(type(each) is FunctionType for each in namespace(piece).values()):
            return False
    # What a decorator wraps is not under its name. Before Python 3.12 dataclasses that a call makes are of `types`.
    elif not (is_users(place[1]) or piece.__module__ == "types"):
        return False
    found: object = sys.modules.get(piece.__module__)
    for part in piece.__qualname__.split("."):
        found = static(found, part)
    return found is not piece


def wrapped_in(value: object) -> object:
    """What a decorator, or `functools.cache`, keeps in `__wrapped__`; nothing of a user's is run to find it."""
    found = static(value, "__wrapped__")
    if type(found) in (GetSetDescriptorType, MemberDescriptorType):
        return found.__get__(value)
    return None if issubclass(type(found), property) else found


def static(value: object, name: str) -> Any:
    """What stands under a name in a thing or its classes, as it stands there; None if nothing does."""
    return next((each[name] for each in _namespaces(value) if name in each), None)


def _namespaces(value: object) -> Iterator[Mapping[str, Any]]:
    if issubclass(type(value), type):
        yield from map(namespace, lineage(value))  # type: ignore[arg-type]
    else:
        # One that has none may answer to the name all the same, by code of its own.
        with suppress(AttributeError):
            yield object.__getattribute__(value, "__dict__")
    yield from map(namespace, lineage(type(value)))


def lineage(kind: type) -> tuple[type, ...]:
    """`__mro__`, whatever the metaclass says."""
    found: tuple[type, ...] = vars(type)["__mro__"].__get__(kind)
    return found


def namespace(kind: type) -> Mapping[str, Any]:
    """`vars` of a class, whatever the metaclass says."""
    found: Mapping[str, Any] = vars(type)["__dict__"].__get__(kind)
    return found


def is_users(path: Path) -> bool:
    return path.is_file() and not is_provided(path) and not is_installed(path)


def is_installed(path: Path) -> bool:
    return not _INSTALLED.isdisjoint(path.parts)


def is_provided(path: Path) -> bool:
    """Whether a file is the standard library's or Regiolect's."""
    return any(path.is_relative_to(folder) for folder in _REGIOLECT) or _is_in_standard(path)


def _is_in_standard(path: Path) -> bool:
    return not is_installed(path) and any(path.is_relative_to(folder) for folder in _standard())


def is_standard(kind: type) -> bool:
    place = place_of(kind)
    if place is None:
        return kind.__module__.partition(".")[0] in sys.stdlib_module_names
    return _is_in_standard(place[1])


def is_others(kind: type) -> bool:
    """Whether a class is an installed package's."""
    place = place_of(kind)
    return place is not None and is_installed(place[1])


@functools.cache
def _standard() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[key]) for key in ("stdlib", "platstdlib")})
