"""A child's own side of `regiolect.host.isolated`: it serves calls, sends back what they come to, and dies in time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from regiolect.errors.output import causes, named, redact_output, text_of, traceback_of, without_secrets


@dataclass(frozen=True)
class Raised:
    """An error on its way to the parent, its causes after it, and where in the child it was raised.

    None of them tells a secret: the parent's errors are logged, and an orchestrator keeps that.
    """

    chain: tuple[BaseException, ...]
    at: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        return cls(tuple(map(_portable, causes(error))), traceback_of(error))

    def error(self) -> BaseException:
        for link, cause in zip(self.chain, self.chain[1:], strict=False):
            link.__cause__ = cause
        # What others made of its notes may be no list.
        with suppress(TypeError):
            self.chain[0].add_note(f"In the child process:\n{self.at}")
        return self.chain[0]


def _portable(error: BaseException) -> BaseException:
    """The error, or one of the same name and text where its own kind cannot be sent, its text tells a secret, or it
    would end more than the call, as KeyboardInterrupt does."""
    told = without_secrets(error)
    try:
        if isinstance(told, Exception):
            pickle.loads(pickle.dumps(told))  # noqa: S301 - what was pickled here
            return told
    # Pickling calls code of the error's own class, which may raise anything.
    except Exception:  # noqa: BLE001, S110
        pass
    return named(type(error).__name__, text_of(error))


@dataclass(frozen=True)
class Waits:
    """A child began to wait for others, or is done with it."""

    begins: bool


@dataclass(frozen=True)
class _ToParent:
    """The pipe to the parent, for all threads of a child; to `logging` it is a queue."""

    connection: Connection
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_nowait(self, message: object) -> None:
        self.send(ForkingPickler.dumps(message))

    def send(self, pickled: Any) -> None:
        with self._lock:
            self.connection.send_bytes(pickled)


_to_parent: _ToParent | None = None


@contextmanager
def off_the_clock() -> Iterator[None]:
    """Around a wait for other work on this machine: a child's time limit stands still; elsewhere nothing happens."""
    parent = _to_parent
    if parent is None:
        yield
        return
    parent.put_nowait(Waits(begins=True))
    try:
        yield
    finally:
        parent.put_nowait(Waits(begins=False))


def serve(connection: Connection, environment: Mapping[str, str], level: int) -> None:
    """A child's life: one call after another, until the parent closes its end."""
    # No Ctrl-C of the terminal: the parent decides what becomes of it, and of the processes that it starts.
    os.setsid()
    _die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    global _to_parent
    parent: Any = _ToParent(connection)
    _to_parent = parent
    logging.root.handlers[:] = [QueueHandler(parent)]
    logging.root.setLevel(level)
    logging.captureWarnings(True)
    redact_output()
    try:
        while True:
            try:
                call = connection.recv_bytes()
            except EOFError:
                return
            parent.send(_answer_to(call))
    except SystemExit:
        raise
    # As where an answer cannot be sent: multiprocessing would print the error as it is, with all its causes.
    except BaseException as error:  # noqa: BLE001
        sys.stderr.write(traceback_of(error))
        sys.exit(1)


def _answer_to(call: bytes) -> Any:
    """The answer, pickled; an error where there is none, or one that cannot be sent.

    Raises:
        SystemExit: the call ended this process by a number, by which the parent tells it.
    """
    try:
        function, args, kwargs = pickle.loads(call)  # noqa: S301 - of the parent
        return ForkingPickler.dumps(function(*args, **kwargs))
    # What is asked for may be a module that cannot be imported, or raise whatever it likes: the parent raises it.
    except BaseException as error:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            raise
        return ForkingPickler.dumps(Raised.of(error))


def _die_with_parent() -> None:
    """Have this process and those that it starts killed as soon as its parent is gone, also where that was killed, and
    whatever runs here."""
    import fcntl

    parent: Any = multiprocessing.parent_process()
    if not hasattr(fcntl, "F_SETSIG"):
        threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()
        return
    # The kernel does it: a thread would wait for a library that hangs and holds the interpreter's lock.
    # Below zero it is a group's number.
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([parent.sentinel], 0):
        os.killpg(os.getpid(), signal.SIGKILL)


def _leave_after(parent: Any) -> None:
    parent.join()
    os.killpg(os.getpid(), signal.SIGKILL)
