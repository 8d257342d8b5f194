"""Asking once: what a piece of work looks at again and again, read when it is first asked for and not a second time.

Nothing outlives the block: the next one reads everything anew, so that no change is ever missed between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_seen: ContextVar[dict[Hashable, Any] | None] = ContextVar("seen", default=None)


@contextmanager
def one_look() -> Iterator[None]:
    """Within the block, `once` answers what it answered before. Other threads look for themselves, unless they run in a
    copy of this context. A block within a block is the outer one."""
    if _seen.get() is not None:
        yield
        return
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


def once(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` returns, asked once in a look; always asked anew outside of one. An error is not remembered.

    Args:
        key: names what is asked for, and everything that the answer depends on.
    """
    answers = _seen.get()
    if answers is None:
        return make()
    if key not in answers:
        answers[key] = make()
    answer: T = answers[key]
    return answer
