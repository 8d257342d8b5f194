"""What every store can do, and the marker that says whose it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

from pydantic import ValidationError

from regiolect.contracts import Blob, Contract
from regiolect.errors import ForeignStore, StorageError

C = TypeVar("C", bound=Contract)

MARKER = "store.json"


class StoreMarker(Contract):
    """Kept at the top of a store.

    region: whose it is: a region's name, `shared` for what belongs to no region, or None where all regions share one.
    """

    format: Literal[1] = 1
    region: str | None


class Store(Protocol):
    """Where stages keep what they make: content under its digest, and records of stage types under a key.

        >>> from regiolect.storage import open_store
        >>> store = open_store("store", cache=Path("cache"))
        >>> blob = store.put_bytes(b"thresholds")
        >>> store.path_of(blob).read_bytes()
        b'thresholds'
        >>> store.put_record("notes", "first", blob)
        >>> store.get_record("notes", "first", Blob) == blob
        True
        >>> store.get_record("notes", "second", Blob) is None
        True
        >>> list(store.record_keys("notes"))
        ['first']

    `open_store` opens one, `Settings.store` that of a region. Threads and processes may use one at the same time.

    Raises:
        StorageError: by every method, when the store cannot be read or written.
    """

    def put_bytes(self, data: bytes) -> Blob:
        """Keep bytes, in place of damaged ones if such are there; keeping the same bytes again writes nothing.

        Args:
            data: any content, as long as it fits into memory.

        Returns:
            Where it is: its address, its sha256 and its size in bytes.
        """

    def put_file(self, path: Path) -> Blob:
        """Keep a file's content.

        Args:
            path: a regular file, which is read in parts and left as it is.

        Returns:
            As `put_bytes`.
        """

    def path_of(self, blob: Blob) -> Path:
        """A local, read-only file with the blob's content.

        Args:
            blob: as it was returned when the content was kept, here or in another process.

        Returns:
            A file whose content was found to have the blob's digest; of a remote store, a copy in its cache.

        Raises:
            IntegrityError: the content was changed.
            ContentMissing: the store has no such content.
        """

    def has(self, blob: Blob) -> bool:
        """Whether the content is there, by name and size; `path_of` is what verifies it."""

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        """Keep a record under `key`, replacing an older one whole.

        Args:
            kind: what records it belongs to, `outcomes` for one: a word that can name a folder.
            key: its name among those of its kind; a digest, or text that can name a file.
            value: what `get_record` gives back.
        """

    def get_record(self, kind: str, key: str, type_: type[C]) -> C | None:
        """The record, or None if there is none, or if an older version wrote one that no longer reads.

        Args:
            kind, key: as for `put_record`.
            type_: the type that was kept.
        """

    def records(self, kind: str, type_: type[C]) -> Iterator[C]:
        """All readable records of a kind, newest first (S3 tells their age to the second)."""

    def record_keys(self, kind: str) -> Iterator[str]:
        """The keys of all records of a kind, in alphabetical order, readable or not; digests without their prefix."""


def blobs_of(value: Contract) -> Iterator[Blob]:
    """Every blob that a contract names, at any depth."""
    for name in _leading_to_blobs(type(value)):
        yield from _blobs_in(getattr(value, name))


def _blobs_in(value: object) -> Iterator[Blob]:
    if isinstance(value, Blob):
        yield value
    elif isinstance(value, Contract):
        yield from blobs_of(value)
    elif isinstance(value, Mapping):
        yield from _blobs_in(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from _blobs_in(item)


@functools.cache
def _leading_to_blobs(kind: type[Contract]) -> tuple[str, ...]:
    """The fields that can hold a blob. An outcome has thousands of values, ranges and scores, that cannot."""
    return tuple(name for name, field in kind.model_fields.items() if _may_hold_blobs(field.annotation, frozenset()))


def _may_hold_blobs(annotation: object, outer: frozenset[type]) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Contract):
        if annotation in (Blob, Contract):
            return True
        if annotation in outer:
            return False
        fields = annotation.model_fields.values()
        return any(_may_hold_blobs(field.annotation, outer | {annotation}) for field in fields)
    # What is not said to be something else may be anything.
    return annotation in (Any, object) or any(_may_hold_blobs(each, outer) for each in get_args(annotation))


def parsed(data: bytes, type_: type[C]) -> C | None:
    """A record, or None if it is damaged or of another version: worth no more than a missing one, and made again."""
    try:
        return type_.model_validate_json(data)
    except ValidationError:
        return None


def check_marker(
    place: str, region: str | None, read: Callable[[], bytes | None], create: Callable[[StoreMarker], bool]
) -> None:
    """Make sure that a store belongs to `region`, and mark it where nobody has.

    Args:
        place: the store, as an error names it.
        region: who opens it; None where all regions share the store.
        read: the marker's bytes, or None if there is none.
        create: writes the marker unless there is one by now, and says whether it did.

    Raises:
        ForeignStore: it belongs to another region.
        StorageError: the marker cannot be read.
    """
    data = read()
    if data is None:
        if create(StoreMarker(region=region)):
            return
        data = read() or b""
    marker = parsed(data, StoreMarker)
    if marker is None:
        raise StorageError(
            expected=f"a marker of format 1 in {place}/{MARKER}",
            found="something else",
            remedy=f"correct REGIOLECT_STORE if no store is there; else upgrade Regiolect, or delete {MARKER}",
        )
    if marker.region not in (None, region):
        raise ForeignStore(
            expected=f"a store of {_owner(region)} at {place}",
            found=f"one of {_owner(marker.region)}",
            remedy="give each region a place of its own, for example REGIOLECT_STORE=s3://bucket/{region}",
        )


def _owner(region: str | None) -> str:
    if region is None:
        return "all regions"
    return "what belongs to no region" if region == "shared" else f"region {region!r}"
