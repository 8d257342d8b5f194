"""The artifact store: content kept under its digest, and small records kept under a key.

Content is immutable and verified whenever it is read. A record (a JSON document of a stage type) is written last,
so that what it names is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from regiolect.contracts import Blob, Contract, short
from regiolect.errors import StorageError
from regiolect.integrity import atomic_file, canonical_json, digest_bytes, digest_file, verify_file, write_atomic

C = TypeVar("C", bound=Contract)


def blobs_of(value: Contract) -> Iterator[Blob]:
    """Every blob that a contract names, at any depth."""
    for _, field in value:
        yield from _blobs_in(field)


def _blobs_in(value: object) -> Iterator[Blob]:
    if isinstance(value, Blob):
        yield value
    elif isinstance(value, Contract):
        yield from blobs_of(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _blobs_in(item)


def _holds(path: Path, digest: str) -> bool:
    return path.is_file() and digest_file(path) == digest


class Store(Protocol):
    """Where stages keep what they make. Every method raises StorageError when the store cannot be read or written."""

    def put_bytes(self, data: bytes) -> Blob:
        """Keep bytes, in place of damaged ones if such are there; keeping the same bytes again writes nothing."""

    def put_file(self, path: Path) -> Blob:
        """Keep a file's content."""

    def path_of(self, blob: Blob) -> Path:
        """A local, read-only file with the blob's content. Raises IntegrityError when it was changed."""

    def has(self, blob: Blob) -> bool:
        """Whether the content is there, by name and size; `path_of` is what verifies it."""

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        """Keep a record under `key`, replacing an older one whole."""

    def get_record(self, kind: str, key: str, type_: type[C]) -> C | None:
        """The record, or None if there is none, or if an older version wrote one that no longer reads."""

    def records(self, kind: str, type_: type[C]) -> Iterator[C]:
        """All readable records of a kind, newest first."""


class LocalStore:
    """A store in a folder: `blobs/<first two>/<digest>` and `records/<kind>/<key>.json`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put_bytes(self, data: bytes) -> Blob:
        digest = digest_bytes(data)
        path = self._blob_path(digest)
        if not _holds(path, digest):
            write_atomic(path, data)
        return Blob(uri=path.as_uri(), digest=digest, size=len(data))

    def put_file(self, path: Path) -> Blob:
        digest = digest_file(path)
        kept = self._blob_path(digest)
        if not _holds(kept, digest):
            with atomic_file(kept) as temporary:
                shutil.copyfile(path, temporary)
        return Blob(uri=kept.as_uri(), digest=digest, size=kept.stat().st_size)

    def path_of(self, blob: Blob) -> Path:
        path = self._blob_path(blob.digest)
        if not path.is_file():
            raise StorageError(
                expected=f"content {short(blob.digest)} at {path}",
                found="no such file",
                remedy="run again with --force to make it anew, or restore the store from a backup",
            )
        try:
            verify_file(path, blob.digest)
        except OSError as error:
            raise StorageError(
                expected=f"to read {path}", found=str(error), remedy="mend the permissions of the store"
            ) from error
        return path

    def has(self, blob: Blob) -> bool:
        path = self._blob_path(blob.digest)
        return path.is_file() and path.stat().st_size == blob.size

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        write_atomic(self._record_path(kind, key), canonical_json(value))

    def get_record(self, kind: str, key: str, type_: type[C]) -> C | None:
        return self._read(self._record_path(kind, key), type_)

    def records(self, kind: str, type_: type[C]) -> Iterator[C]:
        paths = sorted(
            (self.root / "records" / kind).glob("[!.]*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )
        for path in paths:
            record = self._read(path, type_)
            if record is not None:
                yield record

    @staticmethod
    def _read(path: Path, type_: type[C]) -> C | None:
        try:
            return type_.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                expected=f"to read {path}",
                found=f"{error.strerror or error} ({type(error).__name__})",
                remedy="mend its permissions, or choose another place with REGIOLECT_HOME",
            ) from error
        except ValidationError:
            # Written by another version or damaged: worth no more than a missing one, and made again.
            return None

    def _blob_path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.root / "blobs" / name[:2] / name

    def _record_path(self, kind: str, key: str) -> Path:
        return self.root / "records" / kind / f"{key.removeprefix('sha256:')}.json"
