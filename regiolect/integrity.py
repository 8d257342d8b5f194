"""Digests, canonical JSON and writes that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from regiolect.errors import IntegrityError, StorageError, TruncatedFile
from regiolect.host.files import open_file
from regiolect.scoped_cache import once

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN and infinity are refused."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_json(data: bytes) -> Any:
    """What JSON says that others wrote.

    Raises:
        ValueError: it is none, is nested too deeply, or holds NaN, half of a character or a number out of all range.
    """
    return from_json(data, allow_inf_nan=False)


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """Digest of a regular file, read in pieces. Raises OSError if it cannot be read, UnusableFile if it is none."""
    with open_file(path) as file:
        return _digest(file)


def digest_source(path: Path) -> str:
    """`digest_file` of a file that several models or regions may share: read once in a look (`scoped_cache`)."""
    return once(("file", path), lambda: digest_file(path))


def verify_file(path: Path, digest: str, size: int | None = None) -> None:
    """Raises IntegrityError unless the file at `path` has `digest`, TruncatedFile if it is shorter than `size`.

    Args:
        size: what belongs to `digest`, compared before anything is read; None: nobody kept it.
    """
    with open_file(path) as file:
        if size is not None:
            _require_size(path, file, digest, size)
        _require_digest(path, _digest(file), digest)


def verified_bytes(path: Path, digest: str, size: int) -> bytes:
    """The content of a file, once its size and its digest are right.

    Raises:
        IntegrityError: they are not; TruncatedFile: and it is shorter.
        UnusableFile, OSError: it is no regular file, or cannot be read.
    """
    with open_file(path) as file:
        _require_size(path, file, digest, size)
        data = file.read(size)
    _require_digest(path, digest_bytes(data), digest)
    return data


def _digest(file: BufferedReader) -> str:
    return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _require_size(path: Path, file: BufferedReader, digest: str, size: int) -> None:
    actual = os.fstat(file.fileno()).st_size
    if actual < size:
        raise TruncatedFile(
            expected=f"{path} with {size} bytes, {digest}",
            found=f"{actual} bytes",
            remedy="a copy or download of it ended early: delete it and run again to rebuild it, or fetch it again",
        )
    if actual > size:
        raise _changed(f"{path} with {size} bytes, {digest}", f"{actual} bytes")


def _require_digest(path: Path, actual: str, digest: str) -> None:
    if actual != digest:
        raise _changed(f"{path} with {digest}", actual)


def _changed(expected: str, found: str) -> IntegrityError:
    remedy = "the file was changed or damaged after it was written; delete it and run again, or fetch it again"
    return IntegrityError(expected, found, remedy)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that is renamed to it when the block ends well, and removed when it does not.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            expected=f"to write {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy=f"free space or mend the permissions of {path.parent}, then run again; nothing half-written is left",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
