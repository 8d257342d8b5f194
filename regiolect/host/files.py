"""One way to open a file that comes from outside: a regular one, its size looked at before anything is read.

A named pipe at a file's place would be waited for without end, and a device or a sparse file read until memory is full.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from regiolect.errors import UnusableFile

NOTE = 1 << 20
"""Bytes that a file which people or servers write may have at most: keys, trust, notes, markers, states."""
RECORD = 1 << 28
"""Bytes that a file which grows with models and samples may have at most: manifests, records, tables, journals."""
PROTOBUF = (1 << 31) - 1
"""Bytes that an .onnx file has at most: its format can hold no more, and larger weights lie beside it."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_file(path: Path, most: int | None = None) -> BufferedReader:
    """A regular file, opened for reading. Links are followed, as a secret that Kubernetes mounts is full of them.

    Args:
        path: the file.
        most: bytes that it may have; None where only its content tells, and it is read in pieces.

    Raises:
        UnusableFile: it is something else, or larger.
        OSError: it is not there, or cannot be read.
    """
    # Without O_NONBLOCK a named pipe keeps the process from going on until somebody writes.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        status = os.fstat(handle)
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFREG:
            raise _unusable(path, most, _KINDS.get(kind, "something that is no file"))
        if most is not None and status.st_size > most:
            raise _unusable(path, most, f"{status.st_size:,} bytes")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        UnusableFile: it is something else, or larger.
        OSError: it is not there, or cannot be read.
    """
    with open_file(path, most) as file:
        return read_open(file, path, most)


def read_open(file: BufferedReader, path: Path, most: int) -> bytes:
    """The content of an open file of at most `most` bytes. Raises UnusableFile if it is larger, OSError."""
    # It may grow meanwhile, and what the kernel makes up has no size.
    data = file.read(most + 1)
    if len(data) > most:
        raise _unusable(path, most, f"more than {most:,} bytes")
    return data


def cannot_read(error: Exception) -> str:
    """Why a file could not be read, as an error tells it: `No such file or directory (FileNotFoundError)`."""
    return f"{getattr(error, 'strerror', None) or error} ({type(error).__name__})"


def _unusable(path: Path, most: int | None, found: str) -> UnusableFile:
    size = "" if most is None else f" of at most {most:,} bytes"
    return UnusableFile(
        expected=f"a regular file{size} at {path}",
        found=found,
        remedy="put the right file in its place",
    )
