"""Reading an engine's files."""

from __future__ import annotations

from pathlib import Path

from regiolect import integrity
from regiolect.contracts import Blob
from regiolect.errors import EngineLoadFailed


def verified_bytes(path: Path, blob: Blob) -> bytes:
    """The content of a file of an engine.

    Args:
        blob: whose digest and size the file must have, wherever it lies.

    Raises:
        EngineLoadFailed: it cannot be read.
        IntegrityError: it has another digest; TruncatedFile: and is shorter.
    """
    try:
        return integrity.verified_bytes(path, blob.digest, blob.size)
    except OSError as error:
        raise EngineLoadFailed(
            expected=f"an engine file at {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="fetch the bundle again, or build the engine again with --force",
        ) from error
