"""The history of a registered model: what changed from version to version, as its region's store tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from regiolect.contracts import Contract, RegionOutcome, RegisteredTarget, RegisteredVersion
from regiolect.planning import OUTCOMES, Difference, Sources, differences_between
from regiolect.storage import Store


class EngineChange(Contract):
    """Why an engine is another one than that of an earlier version.

    since: the last version before it that has an engine for the same place; None: there is none.
    differences: in what their build keys differ; empty for the same build; None: a record of them is not kept here.
    """

    place: str
    since: int | None
    differences: tuple[Difference, ...] | None


class HistoryEntry(Contract):
    """A version, and what changed for each of its engines."""

    version: RegisteredVersion
    changes: tuple[EngineChange, ...]


class History(Contract):
    """All versions of a registered model, the oldest first."""

    format: Literal[1] = 1
    name: str
    versions: tuple[HistoryEntry, ...]


def history_of(versions: Sequence[RegisteredVersion], store: Store | None) -> History:
    """Each version held against those before it.

    Args:
        versions: of one registered model, the oldest first; at least one.
        store: the region's, which keeps what engines were built from; None: there is none here.
    """
    before: dict[str, tuple[int, RegisteredTarget]] = {}
    entries = []
    for version in versions:
        changes = tuple(_change(engine, before.get(engine.place), store) for engine in version.engines)
        entries.append(HistoryEntry(version=version, changes=changes))
        before.update({engine.place: (version.version, engine) for engine in version.engines})
    return History(name=versions[0].name, versions=tuple(entries))


def _change(engine: RegisteredTarget, before: tuple[int, RegisteredTarget] | None, store: Store | None) -> EngineChange:
    if before is None:
        return EngineChange(place=engine.place, since=None, differences=())
    since, older = before
    if older.build_key == engine.build_key:
        return EngineChange(place=engine.place, since=since, differences=())
    differ = None if store is None else _differences(older.build_key, engine.build_key, store)
    return EngineChange(place=engine.place, since=since, differences=differ)


def _differences(before: str, now: str, store: Store) -> tuple[Difference, ...] | None:
    old, new = (store.get_record(OUTCOMES, key, RegionOutcome) for key in (before, now))
    kept = Sources.kept_in(store)
    return None if old is None or new is None else differences_between(old.key_parts, new.key_parts, kept, kept)
