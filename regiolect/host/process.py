"""Which process a number means: numbers are given again."""

from __future__ import annotations

from pathlib import Path


def born(pid: int) -> str | None:
    """When a process began, in a form that a change of the clock does not move; None if there is no such process."""
    try:
        # Ticks since this boot; what comes before the last parenthesis is the program's name, which may hold anything.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{ticks}"
    except FileNotFoundError:
        # Either no such process, or a system without /proc.
        import psutil

        try:
            return str(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None
    except ProcessLookupError:
        return None
