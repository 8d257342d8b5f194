"""Stages that are worth keeping: made once for the same inputs, found again after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from regiolect.contracts import Contract
from regiolect.integrity import digest_of, own_code
from regiolect.storage import Store

C = TypeVar("C", bound=Contract)


def remember(store: Store, kind: str, inputs: Mapping[str, str], type_: type[C], make: Callable[[], C]) -> C:
    """What `make` returned for these inputs, now or in an earlier run with the same code.

    Args:
        kind: folder of the record, e.g. "exports".
        inputs: all that the result depends on, as names and digests or versions.
        type_: what `make` returns.
    """
    key = digest_of({"inputs": dict(inputs), "regiolect": own_code()})
    known = store.get_record(kind, key, type_)
    if known is not None:
        return known
    made = make()
    store.put_record(kind, key, made)
    return made
