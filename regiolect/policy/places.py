"""Where policies to be compared lie: a folder, a single file, or a revision of a folder that git keeps."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regiolect.contracts.plain_yaml import read_yaml
from regiolect.errors import UsageError
from regiolect.host.files import NOTE, read_file
from regiolect.policy.book import PolicyBook, builtin_policies
from regiolect.policy.files import ENDINGS, policy_files

_GIT_SECONDS = 60.0


@dataclass(frozen=True)
class PolicyPlace:
    """Policies and what they are called; `region` where only one of them is meant."""

    name: str
    book: PolicyBook
    region: str | None = None


@contextmanager
def policies_at(place: str, folder: Path | None) -> Iterator[PolicyPlace]:
    """The policies at a place, to be read while the block lasts.

    A file stands for its region alone, whatever the file's name; what it extends is looked for beside it, then in the
    project's folder. What is neither a folder nor a file is taken for a git revision of the project's folder.

    Args:
        place: a folder, a file or a revision.
        folder: the project's own policies; the built-in ones when None.

    Raises:
        UsageError: there is no such place.
        InvalidPolicy: the folder holds no policy.
    """
    path, own = Path(place), (folder or builtin_policies()).absolute()
    if path.is_dir():
        yield PolicyPlace(place, PolicyBook(path))
    elif path.is_file():
        region = _region_of(path)
        beside = policy_files(path.absolute().parent)
        yield PolicyPlace(place, PolicyBook(own, files={**beside, region: (path.absolute(),)}), region)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch)
            _extract(place, own, copy)
            yield PolicyPlace(place, PolicyBook(copy, shown=f"{place}:{own.name}"))


def _region_of(path: Path) -> str:
    """The region that a file is about; as it is named, where it does not say so."""
    try:
        stated = read_yaml(read_file(path, NOTE))
    except (OSError, ValueError):
        return path.stem
    region = stated.get("region") if isinstance(stated, dict) else None
    return region if isinstance(region, str) else path.stem


def _extract(revision: str, folder: Path, copy: Path) -> None:
    """Copy the policies of a folder as they were in a revision."""
    # Without it, a revision that begins with a dash would be an option of git's.
    commit = _git(folder, revision, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    archive = _git(folder, revision, "archive", "--format=tar", commit.decode().strip(), "--", ".")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            name, content = PurePosixPath(member.name), files.extractfile(member) if member.isfile() else None
            if content is not None and name.suffix in ENDINGS and len(name.parts) == 1:
                (copy / name.name).write_bytes(content.read())


def _git(folder: Path, revision: str, *command: str) -> bytes:
    git = shutil.which("git")
    found = "no git here, which could know it as a revision"
    if git is not None and folder.is_dir():
        try:
            done = subprocess.run(
                [git, "-C", str(folder), *command], capture_output=True, check=False, timeout=_GIT_SECONDS
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise _unknown(revision, folder, f"git failed: {error}") from error
        if done.returncode == 0:
            return done.stdout
        message = done.stderr.decode(errors="replace").strip().replace("\n", " ").removeprefix("fatal: ")
        found = f"neither a file or folder nor a revision ({message or 'git knows none of that name'})"
    raise _unknown(revision, folder, found)


def _unknown(place: str, folder: Path, found: str) -> UsageError:
    return UsageError(
        expected=f"a folder of policies, a policy file, or a git revision of {folder}, such as HEAD~1",
        found=f"{place!r}: {found}",
        remedy="correct the name; for a revision, name a folder that git keeps with --policies",
    )
