"""Whether a bundle is whole: every file as its manifest says, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from regiolect.bundle.manifest import MANIFEST, BundleManifest
from regiolect.errors import IntegrityError, UnusableFile
from regiolect.integrity import verify_file


def verify_bundle(folder: Path, manifest: BundleManifest, later: Collection[str] = ()) -> None:
    """Raises IntegrityError unless `folder` holds exactly the files that `manifest` names, each with its digest.

    Links are refused like unnamed files: what they lead to can change after the check.

    Args:
        later: paths of files whose digests somebody else compares, with the bytes that are then used.
    """
    try:
        _verify(folder, manifest, later)
    except UnusableFile as error:
        raise IntegrityError(
            error.expected, error.found, "do not use this bundle; fetch or register it again"
        ) from error
    except OSError as error:
        raise IntegrityError(
            expected=f"to read every file of the bundle at {folder}",
            found=f"{error.strerror or error} ({type(error).__name__}): {error.filename!r}",
            remedy="mend its permissions, or fetch or register it again",
        ) from error


def _verify(folder: Path, manifest: BundleManifest, later: Collection[str]) -> None:
    named = dict(manifest.files())
    present: set[str] = set()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or (not path.is_dir() and relative not in {MANIFEST, *named}):
            raise IntegrityError(
                expected=f"only the {len(named)} files that {folder / MANIFEST} names",
                # Its name is somebody else's, and need not even be text.
                found=f"{'a link' if path.is_symlink() else 'another file'}: {relative!r}",
                remedy="do not use this bundle; fetch or register it again",
            )
        present.add(relative)
    for relative, blob in named.items():
        if relative not in present:
            raise IntegrityError(
                expected=f"{relative} in the bundle at {folder}",
                found="no such file",
                remedy="do not use this bundle; fetch or register it again",
            )
        if relative not in later:
            verify_file(folder / relative, blob.digest, blob.size)
