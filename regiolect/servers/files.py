"""Files that only their owner may read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from regiolect.errors import StorageError
from regiolect.host.guarded import make_guarded


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` with mode 0600, whole or not at all.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        # mkstemp's files are 0600 from their first moment.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Make a folder, and each missing one above it, for its owner alone; one that is there is left as it is.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        make_guarded(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def cannot_write(path: Path, error: OSError) -> StorageError:
    """What to say when the disk refuses `path`."""
    return StorageError(
        expected=f"to write {path}",
        found=f"{error.strerror or error} ({type(error).__name__})",
        remedy=f"free space or mend the permissions of {path.parent}, or choose another place with REGIOLECT_HOME",
    )
