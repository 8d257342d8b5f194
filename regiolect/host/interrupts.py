"""Ctrl-C and SIGTERM: a command ends within seconds, whatever it is in the middle of, and leaves no process behind.

A library that computes answers no signal until it returns, and Prefect goes on to the next stage. So a command works in
a thread, and the main thread only waits for it: there a signal ends what runs elsewhere on the command's behalf, then
every process that it started, then this one, at once. Nothing is unwound and so nothing is recorded: what is kept is
kept whole or not at all, as it must be for a process that is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import psutil

T = TypeVar("T")

MESSAGE = "interrupted; finished work is kept; run again"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A terminal and whatever runs the command may both pass one Ctrl-C on.
_SAME_SECONDS = 0.3
FAREWELL_SECONDS = 3.0
_DIE_SECONDS = 1.0

_answering = threading.Event()
_farewells: list[Callable[[], object]] = []
_spared: set[int] = set()
_begun: float | None = None


def answering(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, ready to be interrupted meanwhile. What it returns or raises is passed on.

    The first SIGINT or SIGTERM says so on stderr and ends this process within seconds, with exit code 130 or 143; a
    second one ends it at once. A signal that was ignored (a job in the background of a script) still is. Outside of the
    main thread, where no signal can be answered, `work` is only done.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            _end(number)
        else:
            # A process that was forked from this one has nothing to keep or to say.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    answered = [number for number, was in before.items() if was is not signal.SIG_IGN]
    try:
        for number in answered:
            signal.signal(number, handle)
        _answering.set()
        with ThreadPoolExecutor(1, thread_name_prefix="command") as pool:
            return pool.submit(copy_context().run, work).result()
    finally:
        _answering.clear()
        for number in answered:
            signal.signal(number, before[number])


def is_answered() -> bool:
    """Whether an interruption of this process is answered by now, because `answering` is at work."""
    return _answering.is_set()


@contextmanager
def farewell(say: Callable[[], object]) -> Iterator[None]:
    """While the block lasts an interruption also calls `say`, the latest first; all of them have three seconds."""
    _farewells.append(say)
    try:
        yield
    finally:
        _farewells.remove(say)


def spare(pid: int) -> None:
    """Leave a process, and what it starts, alone at an interruption: a server that is to outlive this command."""
    _spared.add(pid)


def stand_still() -> None:
    """Begin nothing more once this process was interrupted: whoever calls stays here until it has ended."""
    if _begun is not None:
        threading.Event().wait()


def _end(number: int) -> None:
    global _begun
    now = time.monotonic()
    if _begun is not None:
        if now - _begun < _SAME_SECONDS:
            return
        _end_children()
        os._exit(128 + number)
    _begun = now
    logging.disable(logging.CRITICAL)
    with suppress(OSError):
        os.write(2, f"\n{MESSAGE}\n".encode())
    # Daemons, since each may wait for a server that does not answer.
    speakers = [threading.Thread(target=_speak, args=(say,), daemon=True) for say in reversed(_farewells)]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(max(0.0, now + FAREWELL_SECONDS - time.monotonic()))
    _end_children()
    os._exit(128 + number)


def _speak(say: Callable[[], object]) -> None:
    # What could not be said to a server stays unsaid; this process ends all the same, and quietly.
    with suppress(Exception):
        say()


def _end_children() -> None:
    """Kill every process that this one started, and theirs, but for those that are spared."""
    try:
        import psutil
    except ImportError:
        # Nothing that starts processes is installed without it.
        return
    ours: set[psutil.Process] = set()
    while found := _descendants(psutil.Process()) - ours:
        for child in found:
            with suppress(psutil.Error):
                # First stopped, so that none starts another between being found and being killed.
                child.suspend()
        ours |= found
    for child in ours:
        with suppress(psutil.Error):
            child.kill()
    until = time.monotonic() + _DIE_SECONDS
    while time.monotonic() < until and any(map(_lives, ours)):
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    import psutil

    # A zombie is its parent's to bury, which may be gone.
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _descendants(process: psutil.Process) -> set[psutil.Process]:
    import psutil

    found: set[psutil.Process] = set()
    with suppress(psutil.Error):
        for child in process.children():
            if child.pid not in _spared:
                found |= {child, *_descendants(child)}
    return found
