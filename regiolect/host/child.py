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
from functools import partial
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from regiolect.errors.output import (
    causes,
    named,
    printable_repr,
    redact_output,
    text_of,
    texts_of,
    traceback_of,
    without_secrets,
)
from regiolect.host import wire


@dataclass(frozen=True)
class _Link:
    """An error as it is sent: pickled, and by its name and text for where that makes no such error.

    The parent may lack the module that it is of, or its constructor may put words of its own around its text.
    """

    kind: str
    text: str
    pickled: bytes | None

    @classmethod
    def of(cls, error: BaseException) -> _Link:
        told, kind, text = without_secrets(error), type(error).__name__, text_of(error)
        try:
            # What would end more than the call, as KeyboardInterrupt does, is sent by its name.
            pickled = pickle.dumps(told) if isinstance(told, Exception) else None
            if pickled is not None and _is_like(_unpickled(pickled), told):
                return cls(kind, text, pickled)
        # Pickling calls code of the error's own class, which may raise anything.
        except Exception:  # noqa: BLE001, S110
            pass
        return cls(kind, text, None)

    def error(self, cause: BaseException | None) -> BaseException:
        with suppress(Exception):
            if self.pickled is not None:
                error = _unpickled(self.pickled)
                if (type(error).__name__, text_of(error)) == (self.kind, self.text):
                    error.__cause__ = cause
                    return error
        error = named(self.kind, self.text)
        error.__cause__ = cause
        return error


def _unpickled(pickled: bytes) -> BaseException:
    error: BaseException = pickle.loads(pickled)  # noqa: S301 - what a child of this release pickled
    # An error may let nothing be set; and notes that others made may be no list.
    error.__cause__ = None
    notes = list(getattr(error, "__notes__", ()))
    error.add_note("")
    error.__notes__ = notes
    return error


def _is_like(copy: BaseException, error: BaseException) -> bool:
    return type(copy) is type(error) and texts_of(copy) == texts_of(error)


@dataclass(frozen=True)
class Raised:
    """An error on its way to the parent, its causes after it, and where in the child it was raised.

    None of them tells a secret: the parent's errors are logged, and an orchestrator keeps that.
    """

    chain: tuple[_Link, ...]
    at: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        return cls(tuple(map(_Link.of, causes(error))), traceback_of(error))

    def error(self) -> BaseException:
        error: BaseException | None = None
        for link in reversed(self.chain):
            error = link.error(error)
        assert error is not None, "an error is its own first link"  # noqa: S101
        error.add_note(f"In the child process:\n{self.at}")
        return error


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
        if isinstance(message, logging.LogRecord):
            _make_plain(message)
        self.send(ForkingPickler.dumps(message))

    def send(self, pickled: Any) -> None:
        with self._lock:
            wire.send(self.connection.fileno(), pickled)


def _make_plain(record: logging.LogRecord) -> None:
    """Of what was logged beside the text, `extra`, what is no text or number is sent as it prints: it may be of a kind
    that cannot be pickled, or that only this process has."""
    for name, value in record.__dict__.items():
        if type(value) not in (str, int, float, bool, type(None)):
            record.__dict__[name] = printable_repr(value)


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
        # In a process that was forked meanwhile there is none.
        if _to_parent is parent:
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
    os.register_at_fork(after_in_child=partial(_leave_the_parent_alone, connection))
    logging.root.setLevel(level)
    logging.captureWarnings(True)
    redact_output()
    try:
        while True:
            try:
                call = wire.receive(connection.fileno())
            except EOFError:
                return
            parent.send(_answer_to(call))
    except SystemExit:
        raise
    # As where an answer cannot be sent: multiprocessing would print the error as it is, with all its causes.
    except BaseException as error:  # noqa: BLE001
        sys.stderr.write(traceback_of(error))
        sys.exit(1)


def _leave_the_parent_alone(connection: Connection) -> None:
    """In a process that a child forked, as those that load data: what two processes send at once would mix, and the
    pipe would stay open when the child is dead. What it logs goes where Python writes it by itself."""
    global _to_parent
    _to_parent = None
    logging.root.handlers.clear()
    connection.close()


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
