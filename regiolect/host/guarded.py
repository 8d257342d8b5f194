"""Files that decide what is trusted, read only where nobody else can read or change what must be theirs alone.

Looked at each time such a file is used: its owner and mode, and those of every folder and link on the way to it. Others
are all accounts but root and the one that this process runs as. A group is its owner's own if it bears the owner's name
and has no other member, as Debian makes one for each user. What is mounted read-only cannot be changed from here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from regiolect.errors import UnusableFile
from regiolect.host.files import NOTE, open_file, read_open


def read_secret(path: Path) -> bytes:
    """A file that nobody else may read: its owner alone, or a group of root's choice, as Kubernetes mounts a secret.

    Raises:
        UnusableFile: others can read or change it.
        OSError: it is not there, or cannot be read.
    """
    with open_file(path, NOTE) as file:
        status = os.fstat(file.fileno())
        by_group = 0 if status.st_uid == 0 or _is_private_group(status) else stat.S_IRWXG
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & (by_group | stat.S_IRWXO):
            raise UnusableFile(
                expected=f"a file that no other account can read at {path}",
                found=f"{path} of mode {stat.S_IMODE(status.st_mode):04o}, owned by {_owner(status)}",
                remedy=f"chmod 600 {path}; what Kubernetes mounts needs `defaultMode: 0440` and an `fsGroup`",
            )
        _require_unchangeable(path, status)
        return read_open(file, path, NOTE)


def read_guarded(path: Path) -> bytes:
    """A file that everybody may read and nobody else may change.

    Raises:
        UnusableFile: others can change it, or put another one in its place.
        OSError: it is not there, or cannot be read.
    """
    with open_file(path, NOTE) as file:
        _require_unchangeable(path, os.fstat(file.fileno()))
        return read_open(file, path, NOTE)


def make_guarded(folder: Path, mode: int = 0o700) -> None:
    """Make a folder and each missing one above it, of a mode with which what lies in it can be `read_guarded` whatever
    the umask. Those that are there keep theirs.

    Raises:
        OSError: one cannot be made.
    """
    # What `mkdir(parents=True)` makes above it has the umask's mode, and 002 is usual.
    for place in reversed((folder, *folder.parents)):
        if not place.is_dir():
            place.mkdir(mode, exist_ok=True)


def make_own(folder: Path) -> None:
    """Make a folder of this account's own in one where everybody may make some; one that is there must be that.

    Raises:
        UnusableFile: it is a link, or something else, or others own it or can write it.
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and (
        os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    ):
        return
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a link" if stat.S_ISLNK(status.st_mode) else "no folder"
    raise UnusableFile(
        expected=f"a folder at {folder} that is this account's own, and that no other can write",
        found=f"{kind} of mode {stat.S_IMODE(status.st_mode):04o}, owned by {_owner(status)}",
        remedy="find out who put it there and remove it, or name another place in TMPDIR",
    )


def _require_unchangeable(path: Path, status: os.stat_result) -> None:
    if os.name != "posix":
        return
    if not _is_read_only(path):
        _require_own(path, status, path)
    for place in _way(path):
        if not _is_read_only(place):
            _require_own(place, place.lstat(), path)


def _require_own(place: Path, status: os.stat_result, path: Path) -> None:
    """Raises UnusableFile if others own `place` or can write it. In a folder with the sticky bit nobody can touch what
    belongs to another, and a link is what its folder lets it be."""
    what = f"{place} of mode {stat.S_IMODE(status.st_mode):04o}, owned by {_owner(status)}"
    expected = f"{path}, and the folders that it lies in, to be changed by nobody else"
    if status.st_uid not in (0, os.geteuid()):
        remedy = f"chown {os.geteuid()} {place}, or copy the file to a folder of your own"
        raise UnusableFile(expected, what, remedy)
    by_group = 0 if _is_private_group(status) else stat.S_IWGRP
    harmless = stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)
    if status.st_mode & (by_group | stat.S_IWOTH) and not harmless:
        raise UnusableFile(expected, what, f"chmod go-w {place}")


def _way(path: Path) -> Iterator[Path]:
    """Every folder and link that decides what lies at a path, those behind links among them."""
    todo, known = [path.absolute()], set[Path]()
    while todo:
        name = todo.pop()
        for place in (*name.parents, name):
            if place in known or (place == name and not place.is_symlink()):
                continue
            known.add(place)
            yield place
            if place.is_symlink():
                todo.append(place.parent / place.readlink() / name.relative_to(place))


def _is_read_only(place: Path) -> bool:
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def _is_private_group(status: os.stat_result) -> bool:
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    alone = set(group.gr_mem) <= {owner.pw_name}
    return alone and owner.pw_gid == group.gr_gid and owner.pw_name == group.gr_name


def _owner(status: os.stat_result) -> str:
    return f"{status.st_uid}:{status.st_gid}"
