"""Child processes in which vendors' libraries run, so that a crash, a hang or a leak there ends nothing but the child.

Children are forked by one fork server, a process that imported what a release needs and never opened a session: so a
child is there in some tens of milliseconds. It has a memory and locks of its own, and it dies with its parent, however
that ends.

    >>> from regiolect.host.isolated import Child, Limits
    >>> import math
    >>> with Child("an example", Limits(memory_bytes=1 << 32, seconds=60)) as child:
    ...     child.run(math.sqrt, 9.0)
    3.0
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from regiolect.errors import EngineCrashed
from regiolect.host.child import Raised, Waits, serve
from regiolect.host.interrupts import stand_still
from regiolect.host.memory import resident
from regiolect.host.process import born
from regiolect.host.wire import ParentsEnd

P = ParamSpec("P")
T = TypeVar("T")

_CONTEXT = multiprocessing.get_context("forkserver")
# How often a child's memory and time are looked at, and how soon an exception that another thread sends gets through.
_LOOK_SECONDS = 0.1
# So many times as long as a look took, the next one is put off at least.
_REST = 9
# What a child may take to leave by itself once it is told to; nothing that it holds is worth more.
_LEAVE_SECONDS = 2.0
# A socket in it has a name of at most 107.
_LONGEST_TMPDIR = 70

_preloaded = {"regiolect.host.fork_server": None}
# The children that there are, by the number of process and group, with what each had when it was last looked at.
_running: dict[int, int] = {}
# Those of them that serve a call. Of another one nobody looks at the memory, and nobody would be told of its end.
_called: set[int] = set()
_counted = threading.Lock()
_ending = threading.Event()


@dataclass(frozen=True)
class Limits:
    """What one call in a child may take.

    memory_bytes: resident, not addressed: CUDA reserves more addresses than any machine has memory. What the processes
        that the child started have is its own.
    seconds: until the call answers; what it waits for others meanwhile does not count.
    together_bytes: what all children of this process may have; of those that serve a call the one that has most is
        ended. None: any.
    """

    memory_bytes: int
    seconds: float
    together_bytes: int | None = None


def start_fork_server(preload: Sequence[str] = ()) -> None:
    """Have the fork server import modules while this process does something else. A second call does nothing.

    Args:
        preload: modules that children use; one that is not installed is passed over. None of them may start threads.

    Raises:
        EngineCrashed: it cannot be started.
    """
    _preloaded.update(dict.fromkeys(preload))
    _CONTEXT.set_forkserver_preload(list(_preloaded))
    with _startable():
        forkserver.ensure_running()


@contextmanager
def _startable() -> Iterator[None]:
    try:
        yield
    # The fork server ends, and its pipe with it, where it cannot fork.
    except (OSError, EOFError) as error:
        raise EngineCrashed(
            expected="to start a process for the stages of a release",
            found=f"{str(error) or 'the fork server ended'} ({type(error).__name__})",
            remedy="make room for one more process and its memory; have TMPDIR name a folder on a disk with room, "
            f"in at most {_LONGEST_TMPDIR} characters",
        ) from error


@dataclass
class Child:
    """A process in which the stages of one model, region or target run, one after another.

    It starts with the first call, and anew with the next one after a crash.

    Attributes:
        of: whose stages they are, as errors name them: "eu on cpu".
        limits: of each call.
        farewell: seconds that the child has to end by itself, by SIGINT, when a call is interrupted; then it is killed.
    """

    of: str
    limits: Limits
    farewell: float = 0.0
    _process: _Process | None = field(default=None, init=False)
    _serving: Any = field(default_factory=threading.RLock, init=False, repr=False)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns or raises in the child; its log records and warnings come out of this process.

        Where another thread has called, this call waits until that one has its answer.

        Args:
            function: of a module that the child can import; its arguments and its answer can be pickled.

        Raises:
            EngineCrashed: the child died, took longer than its limit, or more memory.
            KeyboardInterrupt: `end_children` was called.
            Exception: whatever the function raised, with its causes; by its name alone what would end this process as
                well, as KeyboardInterrupt and `sys.exit("why")` do. A function that leaves by a number crashed.
        """
        with self._alone():
            try:
                process = self._started()
                _called.add(process.pid)
                process.end_of_pipe.put(ForkingPickler.dumps((function, args, kwargs)))
                answer: T | Raised = self._answer(function.__name__, process)
                _called.discard(process.pid)
            # Whatever ends the wait ends the child, a deadline or Ctrl-C too; what the function raised is an answer.
            except BaseException as error:
                self._interrupt(isinstance(error, KeyboardInterrupt))
                raise
        if isinstance(answer, Raised):
            raise answer.error()
        return answer

    def close(self) -> None:
        """Let the child leave, which it does at once between calls."""
        if self._process is not None:
            self._process.connection.close()
        self._end(_LEAVE_SECONDS)

    def kill(self) -> None:
        """End the child now, and the processes that it started."""
        self._end(0.0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # An answer does not say whose it is. In pieces, so that an exception that another thread sends gets through.
        try:
            while not self._serving.acquire(timeout=_LOOK_SECONDS):
                pass
            yield
        finally:
            # That exception may have come first.
            with suppress(RuntimeError):
                self._serving.release()

    def _interrupt(self, by_a_person: bool) -> None:
        """End the child; by itself first, where a person interrupted and it has the time for it."""
        try:
            if by_a_person and self.farewell and self._process is not None:
                with suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGINT)
                self._process.exit_code(self.farewell)
        # A second Ctrl-C waits no longer.
        finally:
            self.kill()

    def _started(self) -> _Process:
        if self._process is None:
            self._process = _Process.start(self.of)
        if _ending.is_set():
            raise KeyboardInterrupt
        return self._process

    def _answer(self, stage: str, process: _Process) -> Any:
        """Sends a call and waits for its answer, hands on what is logged meanwhile, and keeps to the limits."""
        until, look_at = time.monotonic() + self.limits.seconds, 0.0
        # How many threads of the child wait for others, and since when any does.
        waiting, since = 0, 0.0
        while True:
            try:
                pickled = process.end_of_pipe.turn(_LOOK_SECONDS)
            except EOFError:
                raise self._died(stage, process) from None
            if pickled is not None:
                message = pickle.loads(pickled)  # noqa: S301 - of the child
                if isinstance(message, logging.LogRecord):
                    logger = logging.getLogger(message.name)
                    if logger.isEnabledFor(message.levelno):
                        logger.handle(message)
                elif isinstance(message, Waits):
                    now = time.monotonic()
                    until += now - since if waiting else 0.0
                    # One that began in a call before is not counted here.
                    waiting, since = max(0, waiting + (1 if message.begins else -1)), now
                else:
                    return message
            if time.monotonic() < look_at:
                continue
            begins = time.monotonic()
            self._keep_to_memory(stage, process)
            # Counting exactly takes its time on a machine that is nearly full.
            look_at = time.monotonic() + max(_LOOK_SECONDS, _REST * (time.monotonic() - begins))
            if not waiting and time.monotonic() > until:
                raise self._crashed(
                    stage,
                    f"it was ended: no answer within {self.limits.seconds / 60:.3g} minutes, its limit",
                    "if it is slow and does not hang, another limit: REGIOLECT_CHILD_MINUTES; otherwise another "
                    "backend in the policy's targets, or another version of its library",
                )

    def _keep_to_memory(self, stage: str, process: _Process) -> None:
        """Raises EngineCrashed if the child has more memory than it may. What seems too much is counted exactly."""
        limit, together = self.limits.memory_bytes, self.limits.together_bytes
        remedy = "smaller batches in the policy, fewer samples, or another limit: REGIOLECT_CHILD_MEMORY_GIB"
        own = resident(process.pid)
        with _counted:
            # Another thread may have ended it meanwhile.
            if process.pid in _running:
                _running[process.pid] = own
        if own > limit and resident(process.pid, exact=True) > limit:
            found = f"it was ended: more than {limit / 2**30:.3g} GiB of memory resident, its limit"
            raise self._crashed(stage, found, remedy)
        all_of_them = dict(_running)
        if together is None or sum(all_of_them.values()) <= together:
            return
        # What others had when they were last looked at does not say which has most now.
        now = {pid: resident(pid, exact=True) for pid in all_of_them}
        at_work = {process.pid, *(_called & now.keys())}
        if sum(now.values()) > together and process.pid == max(at_work, key=lambda pid: (now.get(pid, own), pid)):
            raise self._crashed(
                stage,
                f"it was ended: it had most of more than {together / 2**30:.3g} GiB of memory that are resident in all "
                "children together, their limit",
                f"fewer regions side by side: PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS; {remedy}",
            )

    def _died(self, stage: str, process: _Process) -> BaseException:
        if _ending.is_set():
            return KeyboardInterrupt()
        # An interruption ends children before this process: no crash, and nothing to be told or kept.
        stand_still()
        code = process.exit_code(_LEAVE_SECONDS)
        if code == -signal.SIGKILL:
            remedy = "free memory: the system ends what takes most when none is left"
        else:
            remedy = (
                "name another backend in the policy's targets, or install another version of its library; "
                "to see where it crashes: REGIOLECT_ISOLATION=off PYTHONFAULTHANDLER=1"
            )
        how = f"died by {_name(-code)}" if code is not None and code < 0 else f"ended with exit code {code}"
        return self._crashed(stage, f"its process {how}", remedy)

    def _crashed(self, stage: str, found: str, remedy: str) -> EngineCrashed:
        return EngineCrashed(f"the stage {stage!r} of {self.of} to come to its end", found, remedy)

    def _end(self, patience: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end(patience)


@dataclass(frozen=True)
class _Process:
    """A child as the operating system has it, and the pipe to it."""

    process: ForkServerProcess
    connection: Connection
    end_of_pipe: ParentsEnd
    pid: int
    born: str | None

    @classmethod
    def start(cls, name: str) -> _Process:
        start_fork_server()
        here, there = _CONTEXT.Pipe()
        level = logging.getLogger().level
        process = _CONTEXT.Process(target=serve, args=(there, dict(os.environ), level), name=name)
        with _startable():
            process.start()
        there.close()
        pid = int(process.pid or 0)
        _running[pid] = 0
        return cls(process, here, ParentsEnd(here.fileno(), process.sentinel), pid, born(pid))

    def exit_code(self, patience: float) -> int | None:
        """Negative: minus the signal that ended it. None: it goes on, after `patience` seconds."""
        self.process.join(patience)
        return self.process.exitcode

    def end(self, patience: float) -> None:
        self.connection.close()
        if self.exit_code(patience) is None:
            _kill(self.pid)
            self.process.join()
        # What it started outlives it, however it ended; and so does it, where only the fork server ended. The number is
        # given to no other process as long as one of its group is left.
        if born(self.pid) in (None, self.born):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with _counted:
            _running.pop(self.pid, None)
        _called.discard(self.pid)
        self.process.close()


def end_children() -> None:
    """End all children of this process at once, for it is about to end itself: none is started after this.

    Who waits for one, in any thread, gets KeyboardInterrupt, so that no region takes it for a crash of its own.
    """
    _ending.set()
    for pid in tuple(_running):
        _kill(pid)


# Without it the interpreter would wait for children at its end.
atexit.register(end_children)


def _kill(pid: int) -> None:
    # A child leads a group of its own, in which are the processes that it started, unless it has only just begun.
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
            return


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
