"""Which files hold the code of what a user wrote: those that define a thing and what it holds, and what they import.

Found by reading, never by running: import statements at the top and inside functions, relative ones too, and those of
what they import in turn. Of `from package import *` the modules that `__all__` names count. Where a file imports by a
name that is text (`importlib.import_module`, `__import__`, `runpy.run_module`, `pkgutil.resolve_name`,
`pydoc.locate`, `importlib.util.find_spec`), every text in it that is the name of a module, or of what is in one,
counts: as it stands, within the file's own package, and within those that it names. So do, in the other files, texts
with a dot or a colon (`"shop.net.Net"`), and those that a thing was made with: a helper may be given them.

Files of the standard library, of installed packages and of Regiolect are left out; an installed package that defines
the thing itself is told by its version. An archive on `sys.path` counts as a whole, without what it imports. Not seen
is what a file loads under a name that it puts together as it runs, or by a path, or from a folder that a function adds
to `sys.path`.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import importlib.metadata
import importlib.util
import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder, all_suffixes
from pathlib import Path
from types import CodeType

from regiolect.identity.defined_in import Module, Piece, bare, file_of, is_installed, is_provided, is_users, place_of
from regiolect.identity.made_of import Made
from regiolect.scoped_cache import once

# Steps of compiled code that say nothing here and stand in between: which ones, differs between versions of Python.
_FILLERS = ("CACHE", "EXTENDED_ARG", "PRECALL", "PUSH_NULL", "TO_BOOL", "NOT_TAKEN")
# What imports by a name that is text.
_BY_NAME = frozenset({"import_module", "__import__", "run_module", "resolve_name", "locate", "find_spec", "EntryPoint"})
_SUFFIXES = tuple(all_suffixes())


@dataclasses.dataclass(frozen=True)
class Code:
    """Where code is, and what else made things what they are.

    Attributes:
        files: by a name that is the same on every machine, made of the module's: `shop/network.py`.
        settings: what things were made with, which may stand in none of these files (`made_of` says what that is), and
            versions of installed packages.
    """

    files: Mapping[str, Path]
    settings: tuple[str, ...]


def code_of(things: Iterable[Made], search: Iterable[str]) -> Code:
    """The code of things, as their files are now; what they were made with, as it was when they were looked at.

    Args:
        search: folders in which modules are looked for: `sys.path` as it was when the things were made.

    Raises:
        LookupError: a thing is defined in no file, as at the prompt or in a notebook; its text names the thing.
    """
    files: dict[str, Path] = {}
    settings: list[str] = []
    folders, seen, held = tuple(search), dict[str, Path](), dict[str, None]()
    for each in things:
        settings += each.settings
        held |= dict.fromkeys(each.names)
        for name, path in _roots(each):
            if is_installed(path):
                files[_called(name, path)] = path
                settings.append(_version(name.partition(".")[0]))
            else:
                _follow(name, path, folders, files, seen)
    # What is found so may import by text as well, and name others.
    while more := _named_to_helpers(seen, folders, held):
        for name, path in more:
            _follow(name, path, folders, files, seen)
    return Code(dict(sorted(files.items())), tuple(settings))


def defined(thing: object) -> Module:
    """Module and file of a thing, as found when decorators and arguments are taken off.

    Raises:
        LookupError: no file defines it.
    """
    whole = bare(thing)
    found = place_of(whole) if isinstance(whole, Piece) else None
    if found is None:
        raise LookupError(repr(thing))
    return found


def _roots(made: Made) -> Iterator[Module]:
    """The modules from which to follow imports: the user's own of the pieces, else the one that defines the thing."""
    whole = defined(made.thing)
    found = [root for piece in made.pieces if (root := place_of(piece)) and is_users(root[1])]
    if not found and not is_provided(whole[1]):
        found.append(whole)
    yield from dict.fromkeys(found)


# ---------------------------------------------------------------------------------------------------- what files import


def _follow(name: str, path: Path, search: tuple[str, ...], files: dict[str, Path], seen: dict[str, Path]) -> None:
    """Add a module's file and, of the user's own, those of its packages and of all that it imports."""
    waiting = [(name, path), *_found(_packages(name), search)]
    while waiting:
        name, path = waiting.pop()
        if name in seen:
            continue
        seen[name] = path
        files[_called(name, path)] = path
        waiting += once(("imported", name, path, search), functools.partial(_imported, name, path, search))


def _imported(name: str, path: Path, search: tuple[str, ...]) -> tuple[Module, ...]:
    """The user's own modules that a file imports, and the packages that they are in."""
    package, whole = _package_of(name, path), _code_in(path)
    named = list(_absolute(_stated(whole), package))
    for star in [each.removesuffix(".*") for each in named if each.endswith(".*")]:
        for file in _inits([star], search).values():
            inside = _code_in(file)
            exported = _names_among(_texts(inside)) if _mentions(inside, frozenset({"__all__"})) else ()
            named += [f"{star}.{text}" for text in exported]
    texts = _names_among(_texts(whole)) if _mentions(whole, _BY_NAME) else []
    named += _meant(texts, package, search)
    return tuple(_found(dict.fromkeys(part for each in named for part in (*_packages(each), each)), search))


def _package_of(name: str, path: Path) -> str:
    return name if path.stem == "__init__" else name.rpartition(".")[0]


def _meant(texts: list[str], package: str, search: tuple[str, ...]) -> Iterator[str]:
    """What texts in a file may name: as they stand, within its package, and within those that they name."""
    yield from _absolute(texts, package)
    for home in (package, *_inits(texts, search)):
        yield from _absolute((text if text.startswith(".") else f".{text}" for text in texts), home)


def _named_to_helpers(seen: Mapping[str, Path], search: tuple[str, ...], held: Iterable[str]) -> list[Module]:
    """Modules that no file imports and that a file, or a text that a thing holds, names, where another imports by
    text."""
    looks = {name: once(("helpers", name, path), functools.partial(_for_helpers, path)) for name, path in seen.items()}
    if not any(imports for imports, _ in looks.values()):
        return []
    given = [
        (_names_among(held), ""),
        *((list(texts), _package_of(name, seen[name])) for name, (_, texts) in looks.items()),
    ]
    named = [
        part for texts, package in given for each in _meant(texts, package, search) for part in (*_packages(each), each)
    ]
    return [found for found in _found(dict.fromkeys(named), search) if found[0] not in seen]


def _for_helpers(path: Path) -> tuple[bool, tuple[str, ...]]:
    """Whether a file imports by text, and which of its texts say by a dot or a colon that they name something."""
    whole = _code_in(path)
    texts = [each for each in _texts(whole) if isinstance(each, str) and ("." in each or ":" in each)]
    return _mentions(whole, _BY_NAME), tuple(_names_among(texts))


def _inits(names: Iterable[str], search: tuple[str, ...]) -> dict[str, Path]:
    """Those of the modules that are packages of the user's, with their own files."""
    return {name: path for name, path in _found(names, search) if path.stem == "__init__"}


def _packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def _called(name: str, path: Path) -> str:
    parts = name.split(".")
    # An archive holds other modules as well.
    whole = path.stem == "__init__" or not path.name.endswith(_SUFFIXES)
    return "/".join((*(parts if whole else parts[:-1]), path.name))


def _found(names: Iterable[str], search: tuple[str, ...]) -> Iterator[Module]:
    """Those of the modules that are the user's own, with their files."""
    for name in names:
        spec = _spec(name, search)
        path = file_of(Path(spec.origin)) if spec is not None and spec.has_location and spec.origin else None
        if path is not None and is_users(path):
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
    if package is None or (package.origin is not None and not is_users(Path(package.origin))):
        return None
    folders = list(package.submodule_search_locations or ())
    try:
        return PathFinder.find_spec(name, folders)
    except KeyError:
        # A folder without __init__.py, in another one: PathFinder knows that one only after it was imported.
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(Path(folder) / last) for folder in folders]
        return spec


def _code_in(path: Path) -> CodeType:
    """The code of a file; none in an archive, in what is compiled, and in what no Python of this version reads, so
    that nothing can import it here. Its content counts all the same."""
    text = path.read_bytes() if path.suffix == ".py" else b""
    # How deep a tree may be, Python 3.11 counts from where the compiler is called: here always from the same place.
    with ThreadPoolExecutor(1) as fresh:
        return fresh.submit(_compiled, text, path).result() or compile("", path, "exec")


def _compiled(text: bytes, path: Path) -> CodeType | None:
    """The code of a text; None if it is none.

    Compiled and not parsed by `ast`: Python 3.11 counts in one place for all threads how deep it is in a tree
    (python/cpython#106905), so that a traceback which another thread prints meanwhile ends this, or this that.
    """
    compiled = functools.partial(compile, text, path, "exec", dont_inherit=True, optimize=0)
    # The last two: a tree that is too deep.
    none = (SyntaxError, ValueError, RecursionError, MemoryError)
    with suppress(*none):
        return compiled()
    # Where warnings are errors, one about code that runs all the same is a SyntaxError. Who warns meanwhile in another
    # thread may not be heard, so this is no way for every file.
    with suppress(*none), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compiled()
    return None


def _stated(whole: CodeType) -> Iterator[str]:
    """What import statements in compiled code name, relative ones with their dots; `from a import b` may mean a module
    a.b. Those that types alone need are not run."""
    for steps in _steps(whole, _may_import):
        for index, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                yield from _import(steps[index - 2].argval, steps[index - 1].argval or (), step.argval)


def _texts(whole: CodeType) -> list[object]:
    """Texts in compiled code, and other constants of it."""
    held: list[object] = []
    for steps in _steps(whole, lambda code: True):
        for step, after in itertools.pairwise((*steps, None)):
            if step is not None and "_CONST" in step.opname:
                # Names that an import statement has looked at already, and those of arguments.
                held += [] if after is not None and after.opname in ("IMPORT_NAME", "CALL_KW") else [step.argval]
    for each in held:
        held += each if isinstance(each, tuple | frozenset) else ()
    return held


def _names_among(texts: Iterable[object]) -> list[str]:
    """Those of the texts that may name a module."""
    names = dict.fromkeys(each.partition(":")[0] for each in texts if isinstance(each, str))
    # Every program holds the one that is left out, and means no module.
    return [each for each in names if each != "__main__" and all(map(str.isidentifier, each.lstrip(".").split(".")))]


def _mentions(whole: CodeType, words: frozenset[str]) -> bool:
    waiting = [whole]
    while waiting:
        code = waiting.pop()
        texts = (each for each in code.co_consts if isinstance(each, str))
        if not words.isdisjoint((*code.co_names, *code.co_varnames, *code.co_freevars, *texts)):
            return True
        waiting += (each for each in code.co_consts if isinstance(each, CodeType))
    return False


def _steps(whole: CodeType, wanted: Callable[[CodeType], bool]) -> Iterator[list[dis.Instruction]]:
    """Steps of each wanted code of a file, however deep it stands."""
    waiting = [whole]
    while waiting:
        code = waiting.pop()
        if wanted(code):
            steps = _run(code)
            yield steps
            waiting += (step.argval for step in steps if isinstance(step.argval, CodeType))


def _run(code: CodeType) -> list[dis.Instruction]:
    """Steps of compiled code, without what `if TYPE_CHECKING` leaves out."""
    steps: list[dis.Instruction] = []
    skipping = False
    for step in dis.get_instructions(code):
        # Up to the next place that anything jumps to: where the block's own jump leads, may lie behind an `else`.
        skipping = skipping and not step.is_jump_target
        if not skipping and step.opname not in _FILLERS:
            skipping = "IF_FALSE" in step.opname and steps[-1].argval == "TYPE_CHECKING"
            steps.append(step)
    return steps


def _may_import(code: CodeType) -> bool:
    """False of most functions, whose steps then need not be gone through."""
    inner = any(isinstance(each, CodeType) for each in code.co_consts)
    return inner or dis.opmap["IMPORT_NAME"] in code.co_code[::2]


def _import(level: int, names: Iterable[str], module: str) -> Iterator[str]:
    yield (start := "." * level + module)
    dot = "." if module else ""
    yield from (f"{start}{dot}{name}" for name in names)


def _absolute(names: Iterable[str], package: str) -> Iterator[str]:
    for name in names:
        try:
            absolute = importlib.util.resolve_name(name, package)
        except ImportError:
            # Relative to no package, or beyond the topmost one: it would fail if it ran.
            continue
        if absolute:
            yield absolute


@functools.cache
def _version(package: str) -> str:
    """`shop 1.2`, of the distribution that installed a package."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(package, [])
        return ", ".join((package, *(f"{owner} {importlib.metadata.version(owner)}" for owner in owners)))
