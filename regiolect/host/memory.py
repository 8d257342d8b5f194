"""How much memory there is for this process, and how much others have."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from regiolect.host.cgroups import limit_files


def usable_memory(limits: Iterable[Path] | None = None) -> int:
    """Bytes of memory that this machine, or the container that this process is in, has.

    Args:
        limits: files that state a limit in bytes; by default those of this process's cgroup and of every one above it
            that can be seen from here. The tightest counts.
    """
    import psutil

    found = [int(psutil.virtual_memory().total)]
    files = limit_files("memory", "memory.max", "memory.limit_in_bytes") if limits is None else limits
    for path in files:
        # One that states none says "max" in v2, and more than any machine has in v1.
        with suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return min(found)


def resident(group: int, *, exact: bool = False) -> int:
    """Bytes that are resident in all processes of a group; 0 once they are gone.

    Args:
        exact: divide what a process shares among all that share it, as forks do, where the system tells; it takes
            tens of milliseconds for a GiB. Otherwise it counts in full for each of them.
    """
    import psutil

    # Asking for each one's group takes an eighth of the time that psutil takes for a process's descendants.
    return sum(_of(pid, exact) for pid in psutil.pids() if _group_of(pid) == group)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _of(pid: int, exact: bool) -> int:
    import psutil

    try:
        process = psutil.Process(pid)
        if exact:
            # Not every system tells it, nor of every process.
            with suppress(psutil.AccessDenied, AttributeError):
                return int(process.memory_full_info().pss)
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
