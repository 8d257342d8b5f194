"""Reading an engine's files."""

from __future__ import annotations

from pathlib import Path

from regiolect.errors import EngineLoadFailed, IntegrityError
from regiolect.integrity import digest_bytes


def verified_bytes(path: Path, digest: str) -> bytes:
    """The content of a file of an engine.

    Raises:
        EngineLoadFailed: it cannot be read.
        IntegrityError: it has another digest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineLoadFailed(
            expected=f"an engine file at {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="fetch the bundle again, or build the engine again with --force",
        ) from error
    found = digest_bytes(data)
    if found != digest:
        raise IntegrityError(
            expected=f"{path} with {digest}",
            found=found,
            remedy="the file was changed or damaged after it was written; delete it and run again or fetch it again",
        )
    return data
