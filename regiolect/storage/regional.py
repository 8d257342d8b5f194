"""A region's own store, with the shared one behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regiolect.contracts import Blob, Contract
from regiolect.errors import ContentMissing
from regiolect.storage.base import C, Store


@dataclass(frozen=True)
class RegionalStore:
    """Writes to a region's own store, and reads content from there or else from the shared one. Content is found by
    its digest, so it does not matter which of them a blob's URI names. Records are the region's own.
    """

    own: Store
    shared: Store

    def put_bytes(self, data: bytes) -> Blob:
        return self.own.put_bytes(data)

    def put_file(self, path: Path) -> Blob:
        return self.own.put_file(path)

    def path_of(self, blob: Blob) -> Path:
        try:
            return self.own.path_of(blob)
        except ContentMissing as missing:
            try:
                return self.shared.path_of(blob)
            except ContentMissing as too:
                raise ContentMissing(f"{missing.expected}, or {too.expected}", "neither", too.remedy) from too

    def has(self, blob: Blob) -> bool:
        return self.own.has(blob) or self.shared.has(blob)

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        self.own.put_record(kind, key, value)

    def get_record(self, kind: str, key: str, type_: type[C]) -> C | None:
        return self.own.get_record(kind, key, type_)

    def records(self, kind: str, type_: type[C]) -> Iterator[C]:
        return self.own.records(kind, type_)

    def record_keys(self, kind: str) -> Iterator[str]:
        return self.own.record_keys(kind)
