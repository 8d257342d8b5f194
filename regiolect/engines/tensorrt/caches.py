"""What TensorRT learns on one machine and may use there again: timings of kernels, kernels compiled at run time, plans
without weights.

They are kept in the user's cache directory, not in a region's store: they speak of one machine, are worth nothing on
another, hold nothing of a region's data, and may be deleted at any time. A cache is loaded for exactly the key that it
was kept under. One that is damaged or another machine's is named, set aside and never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from regiolect.engines.engine import excerpt
from regiolect.errors import StorageError
from regiolect.integrity import canonical_json, digest_bytes, digest_of, write_atomic
from regiolect.progress import note

_FORMAT = "regiolect tensorrt cache 1"
_LOCK_SECONDS = 60.0


def cache_folder() -> Path:
    """Where caches of this user's lie."""
    return user_cache_path("regiolect", appauthor=False) / "tensorrt"


class MachineCache:
    """One cache: a file of a header line, with key and digest, and what TensorRT gave.

    Args:
        kind: what it holds, e.g. `timing`.
        key: everything that it depends on.
        folder: in place of `cache_folder()`.
    """

    def __init__(self, kind: str, key: Mapping[str, str], folder: Path | None = None) -> None:
        self.kind, self.key = kind, dict(key)
        name = digest_of({"kind": kind, **self.key}).removeprefix("sha256:")[:24]
        self.path = (folder or cache_folder()) / f"{kind}-{name}.cache"

    def load(self) -> bytes | None:
        """What was kept under this very key; None if nothing was, or nothing that may be used."""
        try:
            header, separator, data = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            note(f"{self.kind} cache {self.path} is not used: {excerpt(error)}")
            return None
        try:
            told = json.loads(header) if separator else None
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("format") != _FORMAT:
            self.set_aside("corrupt", "it has no header")
        elif told.get("digest") != digest_bytes(data):
            self.set_aside("corrupt", f"its content has {digest_bytes(data)}, it names {told.get('digest')}")
        elif told.get("kind") != self.kind or told.get("key") != self.key:
            self.set_aside("foreign", f"it was kept for {told.get('key')}, and this is {self.key}")
        else:
            return data
        return None

    def keep(self, data: bytes) -> None:
        """Put `data` in place of what was kept, whole or not at all. Where there is no room, that is said and no more:
        nothing depends on a cache."""
        told = {"format": _FORMAT, "kind": self.kind, "key": self.key, "digest": digest_bytes(data)}
        try:
            write_atomic(self.path, canonical_json(told) + b"\n" + data)
        except StorageError as error:
            note(f"{self.kind} cache {self.path} is not kept: {error.found}")

    def set_aside(self, what: str, why: str) -> None:
        """Say what is wrong with the file and move it out of the way."""
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]
        aside = self.path.with_name(f"{self.path.name}.{what}-{content}")
        self.path.replace(aside)
        note(f"{self.kind} cache {self.path} is {what}, {why}: set aside as {aside.name} and not used")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing the cache meanwhile; after a minute they are not waited for any more."""
        lock = FileLock(f"{self.path}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOCK_SECONDS)
        except (OSError, Timeout) as error:
            # Writing is atomic: at worst what another process learnt at the same time is learnt again.
            note(f"{self.kind} cache {self.path} is written without a lock: {excerpt(error)}")
        try:
            yield
        finally:
            lock.release()
