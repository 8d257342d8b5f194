"""Where the system keeps the limits of this process's cgroups."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self")
# A space, tab, end of line or backslash in a name, by its number.
_ESCAPED = re.compile(r"\\([0-7]{3})")

_Mount = tuple[str, Sequence[str], PurePosixPath, Path]


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
        groups, mounts = _lines(process / "cgroup"), _lines(process / "mountinfo")
    except OSError:
        return ()
    names = {"cgroup2": unified, "cgroup": legacy}
    named = [parts for line in groups if len(parts := line.split(":", 2)) == 3]
    mounted = [mount for line in mounts if (mount := _mount(line)) is not None]
    return tuple(file for group in named for file in _files_of(group, mounted, controller, names))


def _lines(file: Path) -> list[str]:
    # Names of folders are bytes in any encoding, and may hold what Python takes for the end of a line.
    return os.fsdecode(file.read_bytes()).split("\n")


def _mount(line: str) -> _Mount | None:
    """Type, options, root and point of a mount, as `man 5 proc_pid_mountinfo` has them; None for what is no such line.

    Fields end at one space each: a mount without a source has an empty one.
    """
    before, between, after = line.partition(" - ")
    fields, more = before.split(" "), after.split(" ")
    if not between or len(fields) < 6 or len(more) != 3:
        return None
    kind, _, options = more
    root, point = (_ESCAPED.sub(lambda found: chr(int(found[1], 8)), field) for field in fields[3:5])
    return kind, options.split(","), PurePosixPath(root), Path(point)


def _files_of(
    group: Sequence[str], mounts: Iterable[_Mount], controller: str, names: Mapping[str, str]
) -> Iterator[Path]:
    number, controllers, path = group
    if number == "0":
        kind, option = "cgroup2", ""
    elif controller in controllers.split(","):
        kind, option = "cgroup", controller
    else:
        return
    for found, options, root, point in mounts:
        if found == kind and (not option or option in options):
            own = PurePosixPath(path)
            # A container often sees its own cgroup alone, mounted as if it were the topmost.
            folder = point / own.relative_to(root) if own.is_relative_to(root) else point
            yield from (each / names[kind] for each in (folder, *folder.parents) if each.is_relative_to(point))
