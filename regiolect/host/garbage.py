"""How often Python looks for garbage that holds itself."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 100_000


def look_seldom() -> None:
    """Have this process, and those that it forks, look after each 100,000 new objects, in place of Python's 700.

    What a release imports are millions of objects, all of which stay: looking at them again and again takes a tenth of
    its processor time. For programs of ours alone; it is not a library's to decide for who imports it.
    """
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
