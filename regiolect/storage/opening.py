"""From a location, as REGIOLECT_STORE states it, to an open store."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.errors import InvalidSetting, StorageError
from regiolect.errors.redaction import redacted_address
from regiolect.storage.base import MARKER, Store
from regiolect.storage.local import LocalStore
from regiolect.storage.regional import RegionalStore

if TYPE_CHECKING:
    from regiolect.storage.s3 import S3Store

PLACEHOLDER = "{region}"
SHARED = "shared"

_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w=-][\w.=-]*)*/?", re.ASCII)
_open: dict[tuple[object, ...], Store] = {}
_opening = threading.Lock()


def is_address(location: str) -> bool:
    """Whether it names a service rather than a folder: `s3:`, say. One letter and a colon is a drive."""
    return re.match(r"[A-Za-z][\w+.-]+:", location) is not None


def check_location(location: str, stated_as: str = "REGIOLECT_STORE") -> str:
    """A location in its full form: a folder's path is made absolute.

    Args:
        location: a folder or `s3://bucket/prefix`, with {region} in it where each region has a place of its own.
        stated_as: where it stands, as an error names it.

    Raises:
        InvalidSetting: it is neither a folder nor `s3://bucket/prefix`, or it has another placeholder than {region}.
    """
    sample = location.replace(PLACEHOLDER, "region")
    brace = re.search(r"\{[^{}/]*\}?|\}", sample)
    if brace:
        raise _invalid(stated_as, f"no placeholder but {PLACEHOLDER}", brace.group())
    if sample.startswith("s3://"):
        if not _S3.fullmatch(sample):
            raise _invalid(
                stated_as,
                "s3://bucket/prefix, of a valid bucket name and letters, digits, '_', '-', '.' and '='",
                redacted_address(location),
            )
        return location.rstrip("/")
    if not location.strip() or is_address(location):
        raise _invalid(stated_as, "a folder, or s3://bucket/prefix", redacted_address(location) or "nothing")
    try:
        return str(Path(location).expanduser().absolute())
    except RuntimeError as error:
        raise _invalid(stated_as, "a folder, or s3://bucket/prefix", f"{location} ({error})") from error


def open_store(location: str, cache: Path, region: str | None = None) -> Store:
    """The store at a location; opened, and checked to be `region`'s, once a process.

    Args:
        location: as `check_location` returns it. With {region} in it each region has a store of its own there, and
            `shared` is the one of what belongs to no region.
        cache: folder for copies of what an S3 store holds.
        region: whose store is asked for; None for what belongs to no region.

    Raises:
        StorageError: the store cannot be opened (StoreUnreachable, StoreAccessRefused, NoSuchBucket, ClockOff), or is
            another region's (ForeignStore).
    """
    if PLACEHOLDER not in location:
        return _opened(location, cache, None)
    if region == SHARED:
        raise InvalidSetting(
            expected="regions that each have a place of their own in the store",
            found=f"a region called {SHARED!r}, which is the place of what belongs to no region",
            remedy=f"rename the region, or take {PLACEHOLDER} out of REGIOLECT_STORE",
        )
    shared = _opened(location.replace(PLACEHOLDER, SHARED), cache, SHARED)
    return (
        shared
        if region is None
        else RegionalStore(_opened(location.replace(PLACEHOLDER, region), cache, region), shared)
    )


def find_store(location: str, cache: Path, region: str) -> Store | None:
    """A region's store to look into; None where the region has no place of its own yet, and none is made.

    Raises:
        StorageError: as `open_store`.
    """
    own = location.replace(PLACEHOLDER, region)
    return open_store(location, cache, region) if own == location or _is_marked(own, cache) else None


def _is_marked(location: str, cache: Path) -> bool:
    if not location.startswith("s3://"):
        return (Path(location) / MARKER).is_file()
    return _s3_store(location, cache).is_marked()


def _opened(location: str, cache: Path, region: str | None) -> Store:
    # Connections do not survive a fork, and another endpoint or other credentials make another store.
    account = hash(frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    key = (location, cache, region, os.getpid(), account)
    with _opening:
        if key not in _open:
            _open[key] = _claimed(location, cache, region)
        return _open[key]


def _claimed(location: str, cache: Path, region: str | None) -> Store:
    if not location.startswith("s3://"):
        local = LocalStore(Path(location))
        local.claim(region)
        return local
    remote = _s3_store(location, cache)
    remote.claim(region)
    return remote


def _s3_store(location: str, cache: Path) -> S3Store:
    try:
        from regiolect.storage.s3 import S3Store
    except ImportError as error:
        raise StorageError(
            expected=f"boto3, to open {location}", found=str(error), remedy="pip install 'regiolect[s3]'"
        ) from error
    return S3Store(location, cache)


def _invalid(stated_as: str, expected: str, found: str) -> InvalidSetting:
    return InvalidSetting(
        expected=f"{stated_as} with {expected}",
        found=found,
        remedy=f"set it to a folder or to s3://bucket/prefix (credentials go into AWS_ACCESS_KEY_ID and "
        f"AWS_SECRET_ACCESS_KEY), with {PLACEHOLDER} where each region has a place of its own; or unset it",
    )
