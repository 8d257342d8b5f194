"""Where a function, class or module is defined, and whose the file is: the user's, an installed package's or ours."""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType

# What takes part in every release has a digest of its own (`toolchain.own_code`).
_REGIOLECT = tuple(Path(__file__).parents[2] / name for name in ("regiolect", "data_checks", "tasks", "flows"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})

Piece = FunctionType | type | ModuleType
Module = tuple[str, Path]


def bare(thing: object) -> object:
    """The function or class that a thing is when what is around it is taken off; itself if it is neither."""
    seen: set[int] = set()
    # What wraps itself is what it is.
    while not isinstance(thing, type) and id(thing) not in seen:
        seen.add(id(thing))
        if isinstance(thing, functools.partial):
            thing = thing.func
        elif isinstance(thing, MethodType):
            thing = thing.__func__
        elif (inner := wrapped_in(thing)) is not None:
            thing = inner
        elif isinstance(thing, FunctionType):
            return thing
        else:
            return thing if type(thing).__module__ == "builtins" else type(thing)
    return thing


def place_of(piece: Piece) -> Module | None:
    """Module and file of a function, class or module, as `file_of`; None if there is no file."""
    file: str | None
    if isinstance(piece, FunctionType):
        # Its `__module__` may be that of what it decorates.
        file, module = piece.__code__.co_filename, piece.__globals__
    else:
        own = piece if isinstance(piece, ModuleType) else sys.modules.get(piece.__module__)
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


def is_made(piece: FunctionType | type) -> bool:
    """Whether a function or class was made by a function, which may have given it values from elsewhere."""
    if "<" in piece.__qualname__:
        return True
    place = place_of(piece)
    # What a decorator wraps is not under its name. Before Python 3.12 dataclasses that a call makes are of `types`.
    if isinstance(piece, FunctionType) or place is None or not (is_users(place[1]) or piece.__module__ == "types"):
        return False
    found: object = sys.modules[piece.__module__]
    for part in piece.__qualname__.split("."):
        found = inspect.getattr_static(found, part, None)
    return found is not piece


def wrapped_in(value: object) -> object:
    """What a decorator, or `functools.cache`, keeps in `__wrapped__`; nothing of a user's is run to find it."""
    found = inspect.getattr_static(value, "__wrapped__", None)
    if isinstance(found, GetSetDescriptorType | MemberDescriptorType):
        return found.__get__(value)
    return None if isinstance(found, property) else found


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
