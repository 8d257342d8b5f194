"""A store in a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from regiolect.contracts import Blob, Contract, short
from regiolect.errors import ContentMissing, StorageError
from regiolect.host.files import RECORD, open_file, read_file
from regiolect.integrity import atomic_file, canonical_json, digest_bytes, digest_file, verify_file, write_atomic
from regiolect.storage.base import MARKER, C, StoreMarker, check_marker, parsed
from regiolect.storage.layout import blob_key, record_folder, record_key


class LocalStore:
    """A store in a folder: `blobs/<first two>/<digest>` and `records/<kind>/<key>.json`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def claim(self, region: str | None) -> None:
        """Make sure that the folder is `region`'s own, marking a new one as such. One that all regions share (None)
        needs no marker, and opening it writes nothing.

        Raises:
            ForeignStore: it belongs to another region.
            StorageError: the marker cannot be read or written.
        """
        path = self.root / MARKER
        check_marker(
            str(self.root), region, lambda: _read(path), lambda marker: region is None or _create(path, marker)
        )

    def put_bytes(self, data: bytes) -> Blob:
        digest = digest_bytes(data)
        path = self.root / blob_key(digest)
        if not _holds(path, digest, len(data)):
            write_atomic(path, data)
        return Blob(uri=path.as_uri(), digest=digest, size=len(data))

    def put_file(self, path: Path) -> Blob:
        digest = digest_file(path)
        kept = self.root / blob_key(digest)
        if not _holds(kept, digest, path.stat().st_size):
            with atomic_file(kept) as temporary, open_file(path) as source, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        return Blob(uri=kept.as_uri(), digest=digest, size=kept.stat().st_size)

    def path_of(self, blob: Blob) -> Path:
        path = self.root / blob_key(blob.digest)
        if not path.is_file():
            raise ContentMissing(
                expected=f"content {short(blob.digest)} at {path}",
                found="no such file",
                remedy="run again with --force to make it anew, or restore the store from a backup",
            )
        try:
            # What is known by its digest alone has no size.
            verify_file(path, blob.digest, blob.size or None)
        except OSError as error:
            raise StorageError(
                expected=f"to read {path}", found=str(error), remedy="mend the permissions of the store"
            ) from error
        return path

    def has(self, blob: Blob) -> bool:
        path = self.root / blob_key(blob.digest)
        return path.is_file() and path.stat().st_size == blob.size

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        write_atomic(self.root / record_key(kind, key), canonical_json(value))

    def get_record(self, kind: str, key: str, type_: type[C]) -> C | None:
        data = _read(self.root / record_key(kind, key))
        return None if data is None else parsed(data, type_)

    def records(self, kind: str, type_: type[C]) -> Iterator[C]:
        paths = sorted(
            (self.root / record_folder(kind)).glob("[!.]*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )
        for path in paths:
            data = _read(path)
            record = None if data is None else parsed(data, type_)
            if record is not None:
                yield record

    def record_keys(self, kind: str) -> Iterator[str]:
        yield from sorted(path.stem for path in (self.root / record_folder(kind)).glob("[!.]*.json"))


def _holds(path: Path, digest: str, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and digest_file(path) == digest


def _read(path: Path) -> bytes | None:
    try:
        return read_file(path, RECORD)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            expected=f"to read {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="mend its permissions, or choose another place with REGIOLECT_STORE",
        ) from error


def _create(path: Path, marker: StoreMarker) -> bool:
    """Write a marker whole, unless there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as temporary:
            temporary.write(canonical_json(marker))
            temporary.flush()
            Path(temporary.name).chmod(0o644)
            os.link(temporary.name, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(
            expected=f"to write {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy=f"free space or mend the permissions of {path.parent}, or choose another place with REGIOLECT_STORE",
        ) from error
    return True
