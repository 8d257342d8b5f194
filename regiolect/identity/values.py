"""Values that say by themselves what they are: as text, or by their bytes."""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np

# Those of which `repr` says all, the narrower first.
PLAIN: tuple[Any, ...] = (bool, int, float, complex, bytes, bytearray, type(None), type(...), range, np.dtype)
PLAIN += (decimal.Decimal, fractions.Fraction, datetime.timedelta, datetime.timezone)
LONGEST = 200  # characters of a value that are kept as they are; the digest of a longer one stands for it


def represented(base: Any, value: Any) -> str:
    """By what the base says: a class that is made of it may say anything."""
    if base is int:
        # Of how many digits Python makes text is a setting of the process, at least 640.
        return int.__repr__(value) if int.bit_length(value) < 2_100 else hex(value)
    if base is range:
        given = (value.start, value.stop, *((value.step,) if value.step != 1 else ()))
    elif base is fractions.Fraction:
        given = (value.numerator, value.denominator)
    else:
        return str(base.__repr__(value))
    return f"{base.__name__}({', '.join(represented(int, each) for each in given)})"


def short(text: str) -> str:
    return text if len(text) <= LONGEST else digest(text.encode(errors="surrogateescape"))


def listed(name: str, texts: Iterable[str]) -> str:
    """`name(text, text)`, or the name alone."""
    whole = ", ".join(texts)
    return f"{name}({whole})" if whole else name


def digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


# ------------------------------------------------------------------------------------------------------ paths


def path_text(path: PurePath) -> str:
    if not path.is_absolute():
        return f"path {str(path)!r}"
    return f"path to {path.name!r}" if path.suffix else "path to a folder"


def text_of(given: str, folders: tuple[str, ...]) -> str:
    """A text; one that leads into one of the folders as a path."""
    if given.startswith("/"):
        path = str(PurePath(given)) if "//" in given or "/." in given else given
        if f"{path}/".startswith(folders):
            return path_text(PurePath(given))
    return repr(given)


def folders_of(search: Iterable[str]) -> tuple[str, ...]:
    """How texts begin that lead into a folder of `search`, or are one.

    The folder that a process works in is in `sys.path` wherever it is started. It counts if a module was imported from
    it, or from its `src`: then it is a project's.
    """
    entries = [(entry, entry.resolve()) for entry in (Path(each).absolute() for each in search)]
    here = {path for pair in entries if pair[1] == Path.cwd() for path in pair}
    if not {str(folder / part) for folder in here for part in ("", "src")}.intersection(_homes()):
        entries = [pair for pair in entries if pair[1] not in here]
    # Everything is in the topmost one.
    return tuple(f"{each}/" for pair in entries for each in pair if each.name)


def _homes() -> Iterator[str]:
    """Folders that topmost modules were imported from."""
    # Other threads import meanwhile; a copy is made at once.
    for name, module in sys.modules.copy().items():
        if "." not in name:
            held = getattr(module, "__dict__", {})
            places = list(held.get("__path__") or (held.get("__file__"),))
            yield from (str(Path(each).parent) for each in places if isinstance(each, str))
