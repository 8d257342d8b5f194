"""Whether a folder can be written and has room, found out before something dies of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from regiolect.errors import StorageError
from regiolect.host.guarded import make_guarded

# An embedded server, its database and a small model's engines; with less, SQLite dies in the middle of a release.
LEAST_FREE = 256 * 1024 * 1024


def require_room(folder: Path) -> None:
    """Make `folder` if it is not there, and see that its disk is not full.

    Raises:
        StorageError: it cannot be made, or less than LEAST_FREE bytes are free.
    """
    try:
        # The credentials of local servers lie below, which are read only where nobody else can put others.
        make_guarded(folder, 0o755)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(
            expected=f"a folder at {folder}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="mend its permissions, or choose another place with REGIOLECT_HOME",
        ) from error
    if free < LEAST_FREE:
        raise StorageError(
            expected=f"at least {LEAST_FREE >> 20} MiB free for {folder}",
            found=f"{free >> 20} MiB",
            remedy="free space, or choose another place with REGIOLECT_HOME",
        )
