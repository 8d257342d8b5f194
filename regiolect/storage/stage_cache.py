"""Stages that are worth keeping: made once for the same inputs, found again after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from regiolect.contracts import Contract
from regiolect.identity.toolchain import own_code, toolchain
from regiolect.integrity import digest_of
from regiolect.storage import Store, blobs_of

C = TypeVar("C", bound=Contract)


def cached(
    store: Store, kind: str, inputs: Mapping[str, str], type_: type[C], make: Callable[[], C], *, force: bool = False
) -> C:
    """What `make` returned for these inputs, now or in an earlier run with the same code and the same libraries.

    A record whose content is no longer in the store counts as none.

    Args:
        kind: folder of the record, e.g. "exports".
        inputs: all that the result depends on, as names and digests or versions.
        type_: what `make` returns.
        force: make it again, and remember that.
    """
    key = digest_of({"inputs": dict(inputs), "regiolect": own_code(), "toolchain": toolchain()})
    kept = store.get_record(kind, key, type_)
    if not force and kept is not None and all(store.has(blob) for blob in blobs_of(kept)):
        return kept
    made = make()
    store.put_record(kind, key, made)
    return made
