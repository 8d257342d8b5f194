"""Messages between a child and its parent, each with its length before it, through one pipe.

A child writes and reads and waits as long as that takes. Its parent never waits within a message: where the child died
in the middle of one, a process that it had forked may hold the pipe open, and neither an end nor a byte would come.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_LENGTH = struct.Struct("!Q")
# What is read or written at once; between two of them the parent looks at its limits.
_PIECE = 1 << 20
# What a pipe answers when the other end is gone, or this one was closed by another thread.
_GONE = (errno.ECONNRESET, errno.EPIPE, errno.EBADF)


def send(pipe: int, message: Any) -> None:
    """Write a message, bytes or a view of them, as a whole."""
    for part in (_LENGTH.pack(len(message)), message):
        left = memoryview(part)
        while left:
            left = left[os.write(pipe, left) :]


def receive(pipe: int) -> bytes:
    """The next message.

    Raises:
        EOFError: the other end was closed.
    """
    return _read(pipe, _LENGTH.unpack(_read(pipe, _LENGTH.size))[0])


def _read(pipe: int, size: int) -> bytes:
    read = bytearray()
    while len(read) < size:
        piece = os.read(pipe, min(_PIECE, size - len(read)))
        if not piece:
            raise EOFError
        read += piece
    return bytes(read)


@dataclass
class ParentsEnd:
    """The parent's end of the pipe to a child.

    pipe: is not to block.
    sentinel: what can be read as soon as the child is dead.
    """

    pipe: int
    sentinel: int
    _coming: bytearray = field(default_factory=bytearray, init=False)
    _going: list[memoryview] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        os.set_blocking(self.pipe, False)

    def put(self, message: Any) -> None:
        """Have a message sent, bytes or a view of them, while `turn` waits for what comes."""
        self._going += [memoryview(_LENGTH.pack(len(message))), memoryview(message)]

    def turn(self, seconds: float) -> memoryview | None:
        """The next message; None where none is complete after so many seconds, or after a piece of one.

        Raises:
            EOFError: the child is gone, and all that it sent was read.
            Exception: what a signal's handler of the caller's raises meanwhile, an OSError as TimeoutError too.
        """
        message = self._complete()
        if message is not None:
            return message
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN | (select.POLLOUT if self._going else 0))
        poll.register(self.sentinel, select.POLLIN)
        ready = dict(poll.poll(seconds * 1000))
        if ready.get(self.pipe, 0) & ~select.POLLOUT:
            with _gone_is_the_end():
                piece = os.read(self.pipe, _PIECE)
            if not piece:
                raise EOFError
            self._coming += piece
            return self._complete()
        if self.sentinel in ready:
            raise EOFError
        if self.pipe in ready:
            with _gone_is_the_end():
                self._write()
        return None

    def _write(self) -> None:
        try:
            left = self._going[0][os.write(self.pipe, self._going[0][:_PIECE]) :]
        except BrokenPipeError:
            # What it sent before may still be there.
            self._going.clear()
        else:
            self._going[:1] = [left] if left else []

    def _complete(self) -> memoryview | None:
        if len(self._coming) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._coming)[0]
        if len(self._coming) < end:
            return None
        # It may be most of the memory that there is: no second time.
        message, self._coming = self._coming, self._coming[end:]
        return memoryview(message)[_LENGTH.size : end]


@contextmanager
def _gone_is_the_end() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _GONE:
            raise EOFError from None
        raise
