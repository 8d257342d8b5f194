"""Server processes: started apart from the caller, known again later, never mistaken for another process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from regiolect.host.files import open_file
from regiolect.host.process import born
from regiolect.progress import note

if TYPE_CHECKING:
    import psutil

_POLL_SECONDS = 0.05
_KILL_SECONDS = 10.0
SAY_SECONDS, MOST_SECONDS = 30.0, 1800.0
# Less of a processor than this is what a server does that waits for something.
_LEAST_WORK, _LOOK_SECONDS = 0.03, 2.0
# Bytes of a log in which its last lines are looked for.
_END = 16_384


class ProcessId(BaseModel):
    """A process for good: its number, and when it was born, which a later process of the same number does not share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    born: str


# Held because a process that this one started stays a zombie until it is asked for its exit code.
_started: dict[ProcessId, subprocess.Popen[bytes]] = {}


def launch(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, descriptors: Sequence[int] = ()
) -> ProcessId:
    """Start a process in a session of its own, so that neither Ctrl-C nor the end of the caller reaches it.

    Args:
        command: program and arguments; no secret may be among them.
        environment: the whole environment.
        folder: where it runs.
        log: file that takes what it prints; what an earlier process left there is kept beside it as `<name>.1`.
        descriptors: open files that it gets beside its output.

    Raises:
        OSError: the program or a folder is not there, or may not be used.
    """
    with suppress(FileNotFoundError):
        log.replace(log.with_suffix(f"{log.suffix}.1"))
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=descriptors,
            umask=0o077,
        )
    started = ProcessId(pid=process.pid, born=born(process.pid) or "")
    _started[started] = process
    return started


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs."""
    return _find(process) is not None


def exit_code(process: ProcessId) -> int | None:
    """Exit code of a process that this one started, once it has ended; minus the signal's number if one ended it."""
    child = _started.get(process)
    return None if child is None else child.poll()


def end(process: ProcessId, with_signal: signal.Signals, seconds: float) -> bool:
    """Ask a process to end, and kill it with everything it started if it does not.

    Returns:
        Whether it ended by itself within `seconds`. True if it was gone already.
    """
    import psutil

    running = _find(process)
    if running is None:
        return True
    family = _family(running)
    with suppress(psutil.NoSuchProcess):
        # psutil compares the time of birth once more before it sends.
        running.send_signal(with_signal)
    gone = _wait([running], seconds)
    _kill(family)
    exit_code(process)
    return gone


def kill(process: ProcessId) -> None:
    """Kill a process and everything it started, at once (SIGKILL)."""
    running = _find(process)
    if running is not None:
        _kill(_family(running))
        exit_code(process)


class Patience:
    """Waits for a server by its progress: a loaded machine is slow and not broken.

    Args:
        process: the server, on its way up.
        name: as a person is told, every 30 s, that it is waited for.
    """

    def __init__(self, process: ProcessId, name: str) -> None:
        self._process, self._name = process, name
        self._begin = self._said = self._looked = self._at_work = time.monotonic()
        self._worked = 0.0

    def ended(self, idle_seconds: float) -> str | None:
        """Why it is given up: it, and what it started, did nothing for so long, or anything for half an hour."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            worked = self._processor_seconds()
            if worked - self._worked >= _LEAST_WORK * (now - self._looked):
                self._at_work = now
            self._looked, self._worked = now, worked
        if now - self._said >= SAY_SECONDS:
            self._said = now
            note(
                f"waits for {self._name} to start: process {self._process.pid}, for {now - self._begin:.0f} s, "
                f"{self._processor_seconds():.0f} s of them at work"
            )
        if now - self._at_work > idle_seconds:
            return f"it did nothing for {idle_seconds:.0f} s"
        return f"no answer within {MOST_SECONDS / 60:.0f} minutes" if now - self._begin > MOST_SECONDS else None

    def _processor_seconds(self) -> float:
        import psutil

        seconds = 0.0
        running = _find(self._process)
        for member in _family(running) if running is not None else ():
            with suppress(psutil.Error):
                times = member.cpu_times()
                seconds += times.user + times.system
        return seconds


def last_lines(log: Path, lines: int = 20) -> str:
    """The end of a log; empty if there is none."""
    try:
        with open_file(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            text = file.read(_END).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def _find(process: ProcessId) -> psutil.Process | None:
    """The process if it still runs; a zombie does not, and another one of the same number is not it."""
    import psutil

    if exit_code(process) is not None:
        return None
    try:
        running = psutil.Process(process.pid)
        same = born(process.pid) == process.born and running.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return running if same else None


def _family(leader: psutil.Process) -> list[psutil.Process]:
    """A process and everything that it started: some of it is in sessions of its own, so its group is not enough."""
    import psutil

    try:
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [leader]


def _kill(family: Sequence[psutil.Process]) -> None:
    import psutil

    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    _wait(family, _KILL_SECONDS)


def _wait(family: Sequence[psutil.Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not all(_is_gone(member) for member in family):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_gone(member: psutil.Process) -> bool:
    import psutil

    try:
        # A zombie's threads may still be on their way out, with the ports that they listened on.
        return not member.is_running() or (member.status() == psutil.STATUS_ZOMBIE and member.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True
