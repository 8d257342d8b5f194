"""Reading an engine's files."""

from __future__ import annotations

from pathlib import Path

from regiolect.contracts import Blob
from regiolect.errors import EngineLoadFailed
from regiolect.integrity import digest_bytes, require_digest


def verified_bytes(path: Path, blob: Blob) -> bytes:
    """The content of a file of an engine.

    Args:
        blob: whose digest and size the file must have, wherever it lies.

    Raises:
        EngineLoadFailed: it cannot be read.
        IntegrityError: it has another digest; TruncatedFile: and is shorter.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineLoadFailed(
            expected=f"an engine file at {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="fetch the bundle again, or build the engine again with --force",
        ) from error
    require_digest(path, digest_bytes(data), len(data), blob.digest, blob.size)
    return data
