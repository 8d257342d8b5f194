"""Which files hold the code of what a user wrote: the file that defines a thing, and all that this one imports.

Found by reading, never by running: import statements at the top and inside functions, relative ones too, and those of
what they import in turn. Files of the standard library, of installed packages and of Regiolect are left out; an
installed package that defines the thing itself is told by its version. Not seen is what a file loads under a name that
it makes up as it runs, or from a folder that a function adds to `sys.path`.
"""

from __future__ import annotations

import ast
import dataclasses
import dis
import enum
import functools
import importlib.metadata
import importlib.util
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CellType, FunctionType, MethodType

from regiolect.once import once

# What takes part in every release has a digest of its own (`integrity.own_code`).
_REGIOLECT = tuple(Path(__file__).parent.parent / name for name in ("regiolect", "data_checks", "tasks", "flows"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_PARSING = threading.Lock()
_PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum)

_Piece = FunctionType | type
_Module = tuple[str, Path]


@dataclasses.dataclass(frozen=True)
class Code:
    """Where code is, and what else made things what they are.

    Attributes:
        files: by a name that is the same on every machine, made of the module's: `shop/network.py`.
        settings: plain values that things were made with and that stand in none of these files: arguments of a partial
            and of the function that made another, fields of a frozen dataclass; and versions of installed packages.
    """

    files: Mapping[str, Path]
    settings: tuple[str, ...]


def code_of(things: Iterable[object], search: Iterable[str]) -> Code:
    """The code of functions, lambdas, methods, classes and objects, of partials and of what is decorated.

    Args:
        search: folders in which modules are looked for: `sys.path` as it was when the things were made.

    Raises:
        LookupError: a thing is defined in no file, as at the prompt or in a notebook; its text names the thing.
    """
    files: dict[str, Path] = {}
    settings: list[str] = []
    folders, seen = tuple(search), set[str]()
    for thing in things:
        pieces = list(_pieces(thing, set()))
        settings += [piece for piece in pieces if isinstance(piece, str)]
        for name, path in _roots(thing, [piece for piece in pieces if not isinstance(piece, str)]):
            if _is_installed(path):
                files[_called(name, path)] = path
                settings.append(_version(name.partition(".")[0]))
            else:
                _follow(name, path, folders, files, seen)
    return Code(dict(sorted(files.items())), tuple(settings))


# ---------------------------------------------------------------------------------------------- what things are made of


def _pieces(thing: object, seen: set[int]) -> Iterator[_Piece | str]:
    """The functions and classes whose code a thing runs, and the plain values that it was made with, as text."""
    if id(thing) in seen or thing is None:
        return
    seen.add(id(thing))
    if isinstance(thing, functools.partial):
        yield from _values((thing.func, thing.args, tuple(thing.keywords.items())), seen)
    elif isinstance(thing, MethodType):
        yield from _values((thing.__func__, thing.__self__), seen)
    elif isinstance(thing, FunctionType):
        yield thing
        # A decorator keeps what it decorates in `__wrapped__`, in a variable of its own, or in both.
        yield from _pieces(getattr(thing, "__wrapped__", None), seen)
        # A variable that the function counts with says nothing of what it is.
        counted = {each.argval for each in dis.get_instructions(thing) if each.opname == "STORE_DEREF"}
        cells = dict(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True))
        yield from _values((_content(cell) for name, cell in cells.items() if name not in counted), seen)
    elif isinstance(thing, type):
        yield thing
    elif hasattr(thing, "__wrapped__"):
        yield from _pieces(thing.__wrapped__, seen)
    else:
        yield type(thing)
        parameters = getattr(type(thing), "__dataclass_params__", None)
        # What may change while it is in use would be another thing after each use.
        if parameters is not None and parameters.frozen:
            fields = dataclasses.fields(thing)  # type: ignore[arg-type]
            yield from _values(((field.name, getattr(thing, field.name)) for field in fields), seen)


def _values(values: Iterable[object], seen: set[int]) -> Iterator[_Piece | str]:
    for value in values:
        if isinstance(value, _PLAIN):
            yield repr(value)
        elif isinstance(value, tuple):
            yield from _values(value, seen)
        elif callable(value) or dataclasses.is_dataclass(value):
            yield from _pieces(value, seen)


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _principal(thing: object) -> object:
    """The function or class that a thing is when what is around it is taken off."""
    while not isinstance(thing, type):
        if isinstance(thing, functools.partial):
            thing = thing.func
        elif isinstance(thing, MethodType):
            thing = thing.__func__
        elif hasattr(thing, "__wrapped__"):
            thing = thing.__wrapped__
        elif isinstance(thing, FunctionType):
            return thing
        else:
            return thing if type(thing).__module__ == "builtins" else type(thing)
    return thing


def defined(thing: object) -> tuple[str, Path]:
    """Module and file of a thing, as found when decorators and arguments are taken off.

    Raises:
        LookupError: no file defines it.
    """
    principal = _principal(thing)
    found = _place(principal) if isinstance(principal, _Piece) else None
    if found is None:
        raise LookupError(repr(thing))
    return found


def _roots(thing: object, pieces: Iterable[_Piece]) -> Iterator[_Module]:
    """The modules from which to follow imports: the user's own of the pieces, else the one that defines the thing."""
    whole = defined(thing)
    found = [root for piece in pieces if (root := _place(piece)) is not None and _is_users(root[1])]
    if not found and not _is_provided(whole[1]):
        found.append(whole)
    yield from dict.fromkeys(found)


def _place(piece: _Piece) -> _Module | None:
    """Module and file of a function or class; None if there is no file."""
    file: str | None
    if isinstance(piece, FunctionType):
        # Its `__module__` may be that of what it decorates.
        file, module = piece.__code__.co_filename, piece.__globals__
    else:
        module = getattr(sys.modules.get(piece.__module__), "__dict__", {})
        file = module.get("__file__")
    if not file or not Path(file).is_file():
        return None
    name, spec = module.get("__name__", ""), module.get("__spec__")
    # What runs as a program has its name from its file.
    return (spec.name if spec else Path(file).stem if name in ("", "__main__") else name), Path(file)


# ---------------------------------------------------------------------------------------------------- what files import


def _follow(name: str, path: Path, search: tuple[str, ...], files: dict[str, Path], seen: set[str]) -> None:
    """Add a module's file and, of the user's own, those of its packages and of all that it imports."""
    waiting = [(name, path), *_found(_packages(name), search)]
    while waiting:
        name, path = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        files[_called(name, path)] = path
        waiting += once(("imported", name, path, search), functools.partial(_imported, name, path, search))


def _imported(name: str, path: Path, search: tuple[str, ...]) -> tuple[_Module, ...]:
    """The user's own modules that a file imports, and the packages that they are in."""
    named = _imports(name, path)
    return tuple(_found(dict.fromkeys(part for each in named for part in (*_packages(each), each)), search))


def _packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def _called(name: str, path: Path) -> str:
    parts = name.split(".")
    return "/".join((*(parts if path.stem == "__init__" else parts[:-1]), path.name))


def _found(names: Iterable[str], search: tuple[str, ...]) -> Iterator[_Module]:
    """Those of the modules that are the user's own, with their files."""
    for name in names:
        spec = _spec(name, search)
        if spec is not None and spec.has_location and spec.origin and _is_users(path := Path(spec.origin)):
            yield name, path


def _spec(name: str, search: tuple[str, ...]) -> ModuleSpec | None:
    """What would be imported under a name. Nothing is: `importlib.util.find_spec` would run the packages around it."""
    return once(("module", name, search), functools.partial(_looked_for, name, search))


def _looked_for(name: str, search: tuple[str, ...]) -> ModuleSpec | None:
    parent, _, last = name.rpartition(".")
    if not parent:
        # Packages that are installed to be edited in place may have a finder of their own.
        others = (getattr(finder, "find_spec", None) for finder in sys.meta_path if finder is not PathFinder)
        found = PathFinder.find_spec(name, search)
        return found or next((spec for find in others if find and (spec := find(name, None))), None)
    package = _spec(parent, search)
    if package is None or (package.origin is not None and not _is_users(Path(package.origin))):
        return None
    folders = list(package.submodule_search_locations or ())
    try:
        return PathFinder.find_spec(name, folders)
    except KeyError:
        # A folder without __init__.py, in another one: PathFinder knows that one only after it was imported.
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(Path(folder) / last) for folder in folders]
        return spec


def _imports(name: str, path: Path) -> tuple[str, ...]:
    """Names of the modules that a file imports, or may: `from a import b` may mean a module a.b."""
    text = path.read_bytes() if path.suffix == ".py" else b""
    try:
        # Python 3.11 counts how deep it is in one place for all threads, and fails where two of them are in it.
        with _PARSING:
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        # Not this version's Python, so nothing can import it here. Its content counts all the same.
        return ()
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    loads = b"import_module" in text or b"__import__" in text
    called = (found for node in ast.walk(tree) if loads and (found := _loaded(node)) is not None)
    return tuple(dict.fromkeys(_absolute((*_stated(tree), *called), package)))


def _stated(tree: ast.Module) -> Iterator[str]:
    """What import statements name, relative ones with their dots. Those that types alone need are not run."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            dot = "." if node.module else ""
            yield from (f"{module}{dot}{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        elif not isinstance(node, ast.expr):
            waiting.extend(ast.iter_child_nodes(node))


def _loaded(node: ast.AST) -> str | None:
    """What `importlib.import_module("name")` and `__import__("name")` load."""
    if not isinstance(node, ast.Call) or _name(node.func) not in ("import_module", "__import__") or not node.args:
        return None
    first = node.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _absolute(names: Iterable[str], package: str) -> Iterator[str]:
    for name in names:
        try:
            absolute = importlib.util.resolve_name(name, package)
        except ImportError:
            # Relative to no package, or beyond the topmost one: it would fail if it ran.
            continue
        if absolute:
            yield absolute


# ---------------------------------------------------------------------------------------------------------- whose it is


def _is_users(path: Path) -> bool:
    return path.is_file() and not _is_provided(path) and not _is_installed(path)


def _is_installed(path: Path) -> bool:
    return not _INSTALLED.isdisjoint(path.parts)


def _is_provided(path: Path) -> bool:
    """Whether a file is the standard library's or Regiolect's."""
    own = any(path.is_relative_to(folder) for folder in _REGIOLECT)
    return own or (not _is_installed(path) and any(path.is_relative_to(folder) for folder in _standard()))


@functools.cache
def _standard() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[key]) for key in ("stdlib", "platstdlib")})


@functools.cache
def _version(package: str) -> str:
    """`shop 1.2`, of the distribution that installed a package."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(package, [])
        return ", ".join((package, *(f"{owner} {importlib.metadata.version(owner)}" for owner in owners)))
