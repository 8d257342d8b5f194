"""Backends by name. `regiolect.engines.listed` holds the list; each is imported only when it is asked for."""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING

from regiolect.engines.listed import class_of, names
from regiolect.errors import BackendUnavailable, UnknownBackend

if TYPE_CHECKING:
    from regiolect.engines.base import Backend


@functools.cache
def backend(name: str) -> Backend:
    """The backend of that name. Its library is not imported yet, and need not be installed.

    Raises:
        UnknownBackend: no such name.
        BackendUnavailable: another distribution brings it, and what it brings cannot be imported or is no such backend.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        raise UnknownBackend(
            expected=f"one of the backends {', '.join(names())}",
            found=repr(name),
            remedy=f"did you mean {near[0]!r}?" if near else "name one of them in the policy's targets",
        )
    kind = class_of(name)
    from regiolect.engines.base import Backend

    if not (isinstance(kind, type) and issubclass(kind, Backend)):
        raise BackendUnavailable(
            expected=f"a subclass of regiolect.engines.base.Backend for {name!r}",
            found=repr(kind),
            remedy=f"mend the entry point {name!r} of the distribution that brings it",
        )
    stated = ("distribution", "module", "file_names", "recipes")
    unwritten = [*(each for each in stated if not hasattr(kind, each)), *sorted(kind.__abstractmethods__)]
    if unwritten:
        raise BackendUnavailable(
            expected=f"a backend {name!r} with every attribute and method that `Backend` leaves to it",
            found=f"{kind.__name__} without {', '.join(unwritten)}",
            remedy="write them; regiolect/engines/base.py says what each promises",
        )
    return kind()


__all__ = ["backend", "names"]
