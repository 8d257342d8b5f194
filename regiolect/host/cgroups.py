"""Where the system keeps the limits of this process's cgroups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self")


def limit_files(controller: str, unified: str, legacy: str, process: Path = _PROCESS) -> tuple[Path, ...]:
    """The files in which one kind of limit may stand: in a process's cgroup and in each one above, v2 and v1.

    Args:
        controller: what limits, as v1 names it: `cpu`, `memory`.
        unified, legacy: the file's name in v2 and in v1.
        process: its folder in /proc.

    Returns:
        Paths that need not be there; nothing on a system without cgroups.
    """
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return ()
    names = {"cgroup2": unified, "cgroup": legacy}
    return tuple(file for group in groups for file in _files_of(group, mounts, controller, names))


def _files_of(group: str, mounts: Iterable[list[str]], controller: str, names: dict[str, str]) -> Iterator[Path]:
    number, controllers, path = group.split(":", 2)
    if number == "0":
        kind, option = "cgroup2", ""
    elif controller in controllers.split(","):
        kind, option = "cgroup", controller
    else:
        return
    for fields in mounts:
        root, point, (found, _, options) = fields[3], Path(fields[4]), fields[fields.index("-") + 1 :]
        if found == kind and (not option or option in options.split(",")):
            own = PurePosixPath(path)
            # A container often sees its own cgroup alone, mounted as if it were the topmost.
            folder = point / own.relative_to(root) if own.is_relative_to(root) else point
            yield from (each / names[kind] for each in (folder, *folder.parents) if each.is_relative_to(point))
