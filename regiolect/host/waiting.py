"""Waits that say whom they wait for: at once, every 30 s, and until a limit that ends in an error with a remedy."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from regiolect.errors import Busy, RegiolectError
from regiolect.errors.redaction import redacted
from regiolect.host.child import off_the_clock
from regiolect.host.files import NOTE, read_file
from regiolect.host.process import born

SAY_SECONDS = 30.0
# A lock that two only brush at is no wait.
_AT_ONCE_SECONDS = 0.5
_LONGEST_COMMAND = 120
# A person is told also where nothing was set up to listen.
_LOGGER = logging.getLogger("regiolect.progress")


class Holder(BaseModel):
    """Which process holds something, what for and since when.

    pid: the command's, on whose behalf `by`, itself or a child of it, holds it.
    born: when `by` began.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    by: int
    born: str
    command: str
    doing: str
    since: AwareDatetime

    @classmethod
    def this(cls, doing: str) -> Self:
        """This process, from now on."""
        # Others print it, and it lies in a file.
        command = redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        if len(command) > _LONGEST_COMMAND:
            command = f"{command[:_LONGEST_COMMAND]}..."
        by = os.getpid()
        return cls(pid=_command(), by=by, born=born(by) or "", command=command, doing=doing, since=datetime.now(UTC))

    @property
    def lives(self) -> bool:
        """Whether it still runs, and is not another process of the same number."""
        return born(self.by) == self.born

    def __str__(self) -> str:
        seconds = (datetime.now(UTC) - self.since).total_seconds()
        return f"process {self.pid} ({self.command}) {self.doing} since {self.since:%H:%M:%S} UTC, for {seconds:.0f} s"


@contextmanager
def holding(path: Path, doing: str) -> Iterator[None]:
    """While the block lasts `path` tells others who holds something. Told as well as may be: a full disk stops none."""
    with suppress(OSError), open(path, "w", opener=_plain_file) as file:
        file.write(Holder.this(doing).model_dump_json())
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _plain_file(path: str, flags: int) -> int:
    """Opens a file without waiting for who reads a pipe at its place, and without going where a link leads."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _command() -> int:
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


def others(paths: Iterable[Path]) -> tuple[Holder, ...]:
    """Who holds something, by these files, the longest first; those of processes that died are removed.

    This command itself is none of them: what else it does is on its own screen.
    """
    found = []
    for path in paths:
        try:
            holder = Holder.model_validate_json(read_file(path, NOTE))
        except (OSError, ValidationError):
            continue
        if holder.lives:
            if holder.pid != _command():
                found.append(holder)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return tuple(sorted(found, key=lambda holder: holder.since))


def patiently(
    take: Callable[[float], bool],
    what: str,
    seconds: float,
    whom: Callable[[], str],
    busy: Callable[[str], RegiolectError],
) -> None:
    """Take something as soon as it is free, and say meanwhile what for and whom this process waits.

    Args:
        take: tries for so many seconds; whether it was taken.
        what: what this process waits for, as it ends the words "waits ".
        seconds: how long it waits in all.
        whom: who has it, read anew each time; empty where nothing is worth saying yet.
        busy: the error for when the time is up, from what `whom` says.

    Raises:
        what `busy` gives: it was not free within `seconds`.
    """
    with off_the_clock():
        _patiently(take, what, seconds, whom, busy)


def _patiently(
    take: Callable[[float], bool],
    what: str,
    seconds: float,
    whom: Callable[[], str],
    busy: Callable[[str], RegiolectError],
) -> None:
    begin = time.monotonic()
    until = begin + seconds
    if take(min(seconds, _AT_ONCE_SECONDS)):
        return
    while (left := until - time.monotonic()) > 0:
        told = whom()
        if told:
            waited = time.monotonic() - begin
            _LOGGER.warning("waits %s: %s; has waited %.0f s of at most %.0f s", what, told, waited, seconds)
        if take(min(left, SAY_SECONDS)):
            return
    raise busy(whom() or "another thread of this process")


@contextmanager
def alone(
    path: Path, what: str, seconds: float, kind: type[RegiolectError] = Busy, remedy: str = "run again when it is over"
) -> Iterator[None]:
    """Hold the file lock at `path`, one process and one thread at a time.

    Args:
        what: what is to be done alone, as it ends the words "waits ".
        seconds: how long others are waited for.
        kind, remedy: of the error that says that it took longer.

    Raises:
        OSError: its folder cannot be written.
    """
    lock, record = FileLock(path), path.with_name(f"{path.name}.holder")

    def take(seconds: float) -> bool:
        with suppress(Timeout):
            lock.acquire(timeout=seconds)
        return lock.is_locked

    def busy(told: str) -> RegiolectError:
        return kind(expected=f"{what} within {seconds:g} s", found=f"{told} ({path})", remedy=remedy)

    patiently(take, what, seconds, lambda: "; ".join(map(str, others((record,)))), busy)
    try:
        with holding(record, "holds it"):
            yield
    finally:
        lock.release()
