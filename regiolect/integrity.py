"""Digests, canonical JSON and writes that are whole or absent."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from regiolect.errors import IntegrityError, StorageError, TruncatedFile
from regiolect.once import once

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN and infinity are refused."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """Digest of a file, read in pieces."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_source(path: Path) -> str:
    """`digest_file` of a file that several models or regions may share: read once in a look (see `regiolect.once`)."""
    return once(("file", path), lambda: digest_file(path))


@functools.cache
def own_code() -> str:
    """Digest of everything of Regiolect's own that takes part in a release, data checks included: another version may
    build, or let through, another engine."""
    root = Path(__file__).parent.parent
    packages = ("regiolect", "data_checks", "tasks", "flows")
    files = sorted(file for name in packages for kind in ("*.py", "*.yaml") for file in (root / name).rglob(kind))
    return digest_of({str(file.relative_to(root)): digest_file(file) for file in files})


@functools.cache
def toolchain() -> str:
    """The libraries that export, calibrate and measure, whatever the backend, with their versions."""
    return ", ".join(f"{name} {_version(name)}" for name in ("numpy", "onnx", "onnxruntime", "onnxscript", "torch"))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def verify_file(path: Path, digest: str, size: int | None = None) -> None:
    """Raises IntegrityError unless the file at `path` has `digest`, TruncatedFile if it is shorter than `size`."""
    require_digest(path, digest_file(path), path.stat().st_size, digest, size)


def require_digest(path: Path, found: str, length: int, digest: str, size: int | None = None) -> None:
    """`verify_file`, of a file whose digest and length were found out already.

    Args:
        size: what belongs to `digest`; None: nobody kept it.
    """
    if found == digest:
        return
    if size is not None and length < size:
        raise TruncatedFile(
            expected=f"{path} with {size} bytes, {digest}",
            found=f"{length} bytes, {found}",
            remedy="a copy or download of it ended early: delete it and run again to rebuild it, or fetch it again",
        )
    raise IntegrityError(
        expected=f"{path} with {digest}",
        found=found,
        remedy="the file was changed or damaged after it was written; delete it and run again, or fetch it again",
    )


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
