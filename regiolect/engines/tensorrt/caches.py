"""What TensorRT learns on one machine and may use there again: timings of kernels, kernels compiled at run time, plans
without weights.

They are kept in the user's cache directory, not in a region's store: they speak of one machine, are worth nothing on
another, hold nothing of a region's data, and may be deleted at any time. A cache is loaded for exactly the key that it
was kept under. One that is damaged or another machine's is named, set aside and never used.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from regiolect.engines.engine import excerpt
from regiolect.errors import StorageError
from regiolect.host.files import RECORD, read_file
from regiolect.integrity import canonical_json, digest_bytes, digest_of, parse_json, write_atomic
from regiolect.progress import note

_FORMAT = "regiolect tensorrt cache 1"
# It is held for as long as a file takes to be written.
_LOCK_SECONDS = 10.0


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
        self._lock = FileLock(f"{self.path}.lock")

    def load(self) -> bytes | None:
        """What was kept under this very key; None if nothing was, or nothing that may be used."""
        try:
            content = read_file(self.path, RECORD)
        except FileNotFoundError:
            return None
        except OSError as error:
            note(f"{self.kind} cache {self.path} is not used: {excerpt(error)}")
            return None
        header, separator, data = content.partition(b"\n")
        try:
            head = parse_json(header) if separator else None
        except ValueError:
            head = None
        if not isinstance(head, dict) or head.get("format") != _FORMAT:
            self._move("corrupt", "it has no header", content)
        elif head.get("digest") != digest_bytes(data):
            self._move("corrupt", f"its content has {digest_bytes(data)}, it names {head.get('digest')}", content)
        elif head.get("kind") != self.kind or head.get("key") != self.key:
            self._move("foreign", f"it was kept for {head.get('key')}, and this is {self.key}", content)
        else:
            return data
        return None

    def keep(self, data: bytes) -> None:
        """Put `data` in place of what was kept, whole or not at all. Where there is no room, that is said and no more:
        nothing depends on a cache."""
        try:
            with self.alone():
                write_atomic(self.path, self._file(data))
        except StorageError as error:
            note(f"{self.kind} cache {self.path} is not kept: {error.found}")

    def set_aside(self, what: str, why: str, data: bytes) -> None:
        """Say what is wrong with what `load` gave, and move it out of the way."""
        self._move(what, why, self._file(data))

    def _file(self, data: bytes) -> bytes:
        head = {"format": _FORMAT, "kind": self.kind, "key": self.key, "digest": digest_bytes(data)}
        return canonical_json(head) + b"\n" + data

    def _move(self, what: str, why: str, content: bytes) -> None:
        """Unless another process has moved or replaced that content already: what is there now may be good."""
        aside = self.path.with_name(f"{self.path.name}.{what}-{hashlib.sha256(content).hexdigest()[:8]}")
        fault = f"{self.kind} cache {self.path} is {what}, {why}"
        try:
            with self.alone():
                if read_file(self.path, RECORD) != content:
                    note(f"{fault}: not used, and another process has replaced it")
                    return
                self.path.replace(aside)
        except OSError as error:
            note(f"{fault}: not used, and not set aside: {excerpt(error)}")
        else:
            note(f"{fault}: set aside as {aside.name} and not used")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing the cache meanwhile; they are waited for some seconds and no longer. What
        is done inside of it may be so again."""
        held = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_LOCK_SECONDS)
            held = True
        except (OSError, Timeout) as error:
            # Writing is atomic: at worst what another process learnt at the same time is learnt again.
            note(f"{self.kind} cache {self.path} is written without a lock: {excerpt(error)}")
        try:
            yield
        finally:
            if held:
                self._lock.release()


class KeptNowAndThen:
    """Keeps what is learnt while requests wait for it: at once the first time, then no more often than every `seconds`,
    and what is left when `finish` is called.

    Args:
        give: what there is to keep.
    """

    def __init__(
        self,
        cache: MachineCache,
        give: Callable[[], bytes],
        seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache, self._give, self._seconds, self._clock = cache, give, seconds, clock
        self._next = clock()
        self._left = False

    def learnt(self) -> None:
        """There is more to keep."""
        self._left = True
        if self._clock() >= self._next:
            self._next = self._clock() + self._seconds
            self.finish()

    def finish(self) -> None:
        """Keep what was not kept yet, if there is anything."""
        if self._left:
            self._left = False
            self._cache.keep(self._give())
