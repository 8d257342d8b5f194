"""What machine this is, as far as an engine cares. Cheap: `plan` asks on every call."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, ReadWriteLock, Timeout

from regiolect.errors import Busy
from regiolect.host.guarded import make_own
from regiolect.host.interrupts import stand_still
from regiolect.host.waiting import holding, others, patiently

WAIT_VARIABLE = "REGIOLECT_MACHINE_WAIT_SECONDS"
WAIT_SECONDS = 3600.0
# How long a timing that waits lets other work begin.
TURN_SECONDS = 60.0
_POLL_SECONDS = 0.1
_MOST_TOLD = 3
_inside = threading.local()

"""A fact that a machine does not tell. It is no value: two machines that do not tell need not be alike."""


@contextmanager
def sharing_machine() -> Iterator[None]:
    """Work that may run beside other work on this machine, but not beside a timing. May be called inside of itself.

    Raises:
        Busy: a timing had the machine, or was to have its turn, for longer than REGIOLECT_MACHINE_WAIT_SECONDS.
        UnusableFile: what lies where locks are kept is not this account's own folder.
    """
    stand_still()
    if getattr(_inside, "shares", False):
        yield
        return
    machine = _Machine()
    with machine.held(machine.share, "to work on this machine", "works"):
        _inside.shares = True
        try:
            yield
        finally:
            _inside.shares = False


@contextmanager
def whole_machine() -> Iterator[None]:
    """Wait for the machine to be quiet and keep it so: timings beside a neighbour's build measure the neighbour.

    For the first minute other work may begin meanwhile. Then none does any more, and the timing has its turn when what
    runs by then is over.

    Raises:
        Busy, UnusableFile: as `sharing_machine`.
    """
    stand_still()
    machine = _Machine()
    with machine.held(machine.take, "for a quiet machine to time on", "times"):
        yield


class _Machine:
    """This machine as one thread holds it: read and write lock, and whose turn it is to wait for that.

    Only who has the turn may wait for the lock, so that neither a stream of work that overlaps nor one timing after
    another keeps the rest out for ever. filelock's lock alone prefers neither.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"regiolect-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        make_own(self._folder)
        # One instance a use: one coordinates processes, and here the threads of one must wait for each other too.
        self._lock = ReadWriteLock(self._folder / "machine.db", is_singleton=False)
        self._turn = FileLock(self._folder / "turn.lock")
        self._patient_until = time.monotonic() + TURN_SECONDS

    @contextmanager
    def held(self, take: Callable[[float], bool], what: str, doing: str) -> Iterator[None]:
        seconds = float(os.environ.get(WAIT_VARIABLE, WAIT_SECONDS))
        try:
            patiently(take, what, seconds, self._others, partial(_busy, what, seconds))
        finally:
            self._turn.release()
        try:
            with self._told(doing):
                yield
        finally:
            self._lock.release()

    def share(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        return self._has_turn(seconds) and _within(self._lock.acquire_read, until)

    def take(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < min(until, self._patient_until):
            if self._has_turn(0) and _within(self._lock.acquire_write, now):
                return True
            self._turn.release()
            time.sleep(_POLL_SECONDS)
        if now >= until:
            return False
        with self._told("waits to time, and nothing new begins"):
            return self._has_turn(until - now) and _within(self._lock.acquire_write, until)

    def _has_turn(self, seconds: float) -> bool:
        if not self._turn.is_locked:
            with suppress(Timeout):
                self._turn.acquire(timeout=seconds)
        return self._turn.is_locked

    def _told(self, doing: str) -> AbstractContextManager[None]:
        return holding(self._folder / f"{secrets.token_hex(8)}.holder", doing)

    def _others(self) -> str:
        found = others(self._folder.glob("*.holder"))
        more = f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
        return "; ".join(map(str, found[:_MOST_TOLD])) + more


def _within(acquire: Callable[[float], object], until: float) -> bool:
    try:
        acquire(max(0.0, until - time.monotonic()))
    except Timeout:
        return False
    return True


def _busy(what: str, seconds: float, told: str) -> Busy:
    return Busy(
        expected=f"{what.removeprefix('for ')} within {seconds:g} s",
        found=told,
        remedy=f"run again when they are over, end them, or wait longer: {WAIT_VARIABLE}={2 * seconds:g}",
    )
