"""Files of a version, brought here only if they are no larger than they may be: others can write where they lie."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlparse
from urllib.request import url2pathname

from regiolect.bundle.manifest import MANIFEST, read_bundle
from regiolect.errors import UnusableFile
from regiolect.host.files import open_file, read_file

if TYPE_CHECKING:
    from mlflow.entities import FileInfo


class Artifacts(Protocol):
    """What Regiolect uses of MLflow's artifact repositories, of which not everything has types."""

    def list_artifacts(self, path: str | None) -> list[FileInfo]: ...

    def download_artifacts(self, artifact_path: str, dst_path: str) -> str: ...


def artifacts_at(uri: str, tracking_uri: str) -> Artifacts:
    """The files below an artifact URI. MlflowClient would ask for the run anew at every folder, twice."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    artifacts: Artifacts = get_artifact_repository(uri, tracking_uri=tracking_uri)
    return artifacts


def local_folder(source: str) -> Path | None:
    """The folder that an artifact URI names on this machine; None where it names another place."""
    where = urlparse(source)
    return Path(url2pathname(where.path)) if where.scheme in ("", "file") else None


def listing(artifacts: Artifacts, path: str | None) -> Iterator[tuple[str, int | None]]:
    """Every file below a path, with its size where the store tells it."""
    for entry in artifacts.list_artifacts(path):
        if entry.is_dir:
            yield from listing(artifacts, entry.path)
        else:
            yield entry.path, entry.file_size


def fetch_bytes(source: str, tracking_uri: str, path: str, scratch: Path, most: int) -> bytes:
    """The content of one file of a version of at most `most` bytes.

    Args:
        source: where the version's model lies.
        path: the file's, there.
        scratch: an empty folder.

    Raises:
        UnusableFile: it is larger, or no file.
        OSError, vendors' errors: it cannot be read.
    """
    local = local_folder(source)
    if local is not None:
        return read_file(local / path, most)
    artifacts = artifacts_at(source, tracking_uri)
    for entry in artifacts.list_artifacts(str(PurePosixPath(path).parent)):
        if entry.path == path:
            require_size(entry.path, entry.file_size, most)
    return read_file(Path(artifacts.download_artifacts(path, str(scratch))), most)


def fetch_folder(source: str, tracking_uri: str, path: str, scratch: Path, most: Callable[[str], int]) -> Path:
    """A copy, in `scratch`, of a folder of a version.

    Args:
        path: the folder's, there; empty for all of the version.
        most: bytes that a file in it may have, by its path in the folder.

    Raises:
        UnusableFile: one is larger, or no file; nothing was copied.
        OSError, vendors' errors: it cannot be read.
    """
    artifacts, local = artifacts_at(source, tracking_uri), local_folder(source)
    for name, size in listing(artifacts, path or None):
        allowed = most(str(PurePosixPath(name).relative_to(path)))
        if local is not None:
            open_file(local / name, allowed).close()
        else:
            require_size(name, size, allowed)
    return Path(artifacts.download_artifacts(path, str(scratch)))


def file_sizes(manifest: bytes) -> dict[str, int]:
    """The size of every file that a bundle's manifest names; it is read for that alone.

    Raises:
        InvalidBundle: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(manifest)
        return {path: blob.size for path, blob in read_bundle(Path(folder)).files()}


def require_size(name: str, size: int | None, most: int) -> None:
    """Raises UnusableFile if a file is told to be larger than it may be. None: its size is not told."""
    if size is not None and size > most:
        raise UnusableFile(
            expected=f"a file of at most {most:,} bytes at {name}",
            found=f"{size:,} bytes",
            remedy="do not use this version; release the region again",
        )
