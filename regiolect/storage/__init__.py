"""The artifact store: content kept under its digest, and small records kept under a key.

Content is immutable and verified whenever it is read. A record (a JSON document of a stage type) is written last,
so that what it names is complete.

A store is a folder (`local`) or a prefix of an S3 bucket (`s3`, which alone needs boto3 and is loaded only when asked
for). `open_store` opens either by its location; where the location gives every region a place of its own, it opens that
region's store with the shared one behind it (`regional`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regiolect.storage.base import Store, blobs_of
from regiolect.storage.local import LocalStore
from regiolect.storage.opening import find_store, open_store
from regiolect.storage.regional import RegionalStore

if TYPE_CHECKING:
    from regiolect.storage.s3 import S3Store

__all__ = ["LocalStore", "RegionalStore", "S3Store", "Store", "blobs_of", "find_store", "open_store"]


def __getattr__(name: str) -> type[S3Store]:
    if name != "S3Store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from regiolect.storage.s3 import S3Store

    return S3Store
