"""Where a stage runs: in a child process, for what crashes, hangs or takes all memory there ends that child alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from regiolect.errors.output import raising_no_secret
from regiolect.host.isolated import Child, Limits, start_fork_server
from regiolect.host.memory import usable_memory
from regiolect.release.stages import PRELOADED
from regiolect.settings import load_settings

P = ParamSpec("P")
T = TypeVar("T")

# Of the machine's memory, what all children of a release may take, and one of them when the settings do not say.
_SHARE = 0.8

_CHILD: ContextVar[Child | None] = ContextVar("child", default=None)


@contextmanager
def one_child(of: str, more_minutes: float = 0.0) -> Iterator[None]:
    """Have all stages that are called within run in one child.

    Args:
        of: whose stages they are, as an error names them: "eu on cpu".
        more_minutes: that a stage may take on top of what the settings say: what tuning or repair is given.
    """
    if _apart():
        # While it imports, this process does what comes before the first stage.
        start_fork_server(PRELOADED)
    with Child(of, _limits(more_minutes)) as child:
        before = _CHILD.set(child)
        try:
            yield
        finally:
            _CHILD.reset(before)


def in_child(stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a stage comes to, in the child of the flow that calls it.

    Raises:
        EngineCrashed: the child died, hung, or took more memory than it may.
        Exception: whatever the stage raised, without secrets: the orchestrator keeps it as the run's state.
    """
    child = _CHILD.get()
    if not _apart():
        with raising_no_secret():
            return stage(*args, **kwargs)
    if child is not None:
        return child.run(stage, *args, **kwargs)
    with one_child(stage.__name__):
        return in_child(stage, *args, **kwargs)


def _apart() -> bool:
    return load_settings().isolation == "on"


def _limits(more_minutes: float = 0.0) -> Limits:
    settings = load_settings()
    given = settings.child_memory_gib
    share = int(usable_memory() * _SHARE)
    memory = share if given is None else int(given * 2**30)
    seconds = (settings.child_minutes + more_minutes) * 60
    return Limits(memory_bytes=memory, seconds=seconds, together_bytes=max(share, memory))
