"""The journal in a region's store: one record for an engine on a device, replaced whole after each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from regiolect.contracts import (
    Configuration,
    DroppedCandidate,
    EngineArtifact,
    Performance,
    TuningCandidate,
    TuningJournal,
)
from regiolect.identity.toolchain import own_code
from regiolect.integrity import digest_of
from regiolect.storage import Store

TUNINGS = "tunings"
_BETWEEN, _DIGITS = "--", 12
Say = Callable[[str], None]


def engine_digest(artifact: EngineArtifact) -> str:
    """Identity of an engine: its build key and the bytes of its files."""
    files = {file.path: file.blob.digest for file in artifact.files}
    return digest_of({"build_key": artifact.request.build_key, "files": files})


def journal_key(artifact: EngineArtifact, device: Mapping[str, str]) -> str:
    """Under what the journal of an engine on a device is kept; it begins with the build key."""
    parts = [engine_digest(artifact), digest_of(dict(device))]
    return _BETWEEN.join([_hex(artifact.request.build_key), *(_hex(part)[:_DIGITS] for part in parts)])


def begun(
    artifact: EngineArtifact,
    device: Mapping[str, str],
    tuned_for: Performance,
    at_default_batch: bool,
    candidates: Sequence[TuningCandidate],
    dropped: Sequence[DroppedCandidate],
) -> TuningJournal:
    """A journal without measurements."""
    request = artifact.request
    return TuningJournal(
        model=request.model,
        region=request.region,
        target=request.target,
        build_key=request.build_key,
        engine=engine_digest(artifact),
        device=dict(device),
        regiolect=own_code(),
        tuned_for=tuned_for,
        at_default_batch=at_default_batch,
        default_batch=request.profile.opt,
        started=datetime.now(UTC),
        candidates=tuple(candidates),
        dropped=tuple(dropped),
    )


def keep(journal: TuningJournal, key: str, store: Store) -> None:
    """Replace what is kept under `key`, whole."""
    store.put_record(TUNINGS, key, journal)


def resumable(
    artifact: EngineArtifact,
    device: Mapping[str, str],
    tuned_for: Performance,
    at_default_batch: bool,
    offered: Sequence[Configuration],
    batches: Sequence[int],
    store: Store,
    say: Say,
) -> TuningJournal | None:
    """The journal that measuring goes on from, or None.

    One of another engine, device or version is never gone on from, whatever it is kept as; `say` is told of it.

    Args:
        offered: the configurations that would be tried now.
        batches: the batch sizes that would be.
    """
    key = journal_key(artifact, device)
    journal = store.get_record(TUNINGS, key, TuningJournal)
    if journal is None:
        _tell_of_others(artifact, device, key, store, say)
        return None
    tried: list[TuningCandidate | DroppedCandidate] = [*journal.candidates, *journal.dropped]
    wanted = {
        "engine": (journal.engine, engine_digest(artifact)),
        "device": (dict(journal.device), dict(device)),
        "version of Regiolect": (journal.regiolect, own_code()),
        "aim": ((journal.tuned_for, journal.at_default_batch), (tuned_for, at_default_batch)),
        "default batch": (journal.default_batch, artifact.request.profile.opt),
        "set of configurations": (_sorted(each.configuration for each in tried), _sorted(offered)),
        "set of batches": (sorted({each.batch for each in tried if each.batch}), sorted(batches)),
    }
    differs = [name for name, (before, now) in wanted.items() if before != now]
    if differs:
        another = " and another ".join(differs)
        say(f"a journal of {journal.started:%Y-%m-%d %H:%M} UTC is of another {another}: begun anew")
        return None
    return journal


def _tell_of_others(artifact: EngineArtifact, device: Mapping[str, str], key: str, store: Store, say: Say) -> None:
    build_key = _hex(artifact.request.build_key)
    for other in store.record_keys(TUNINGS):
        if not other.startswith(f"{build_key}{_BETWEEN}") or other == key:
            continue
        journal = store.get_record(TUNINGS, other, TuningJournal)
        if journal is None:
            continue
        what = "another engine of this build key" if journal.engine != engine_digest(artifact) else "another device"
        names = [*dict.fromkeys([*journal.device, *device])]
        differences = [
            f"{name} {journal.device.get(name)}" for name in names if journal.device.get(name) != device.get(name)
        ]
        detail = f" ({', '.join(differences)})" if differences else ""
        say(f"a journal of {journal.started:%Y-%m-%d %H:%M} UTC is of {what}{detail}: not gone on from")


def _sorted(configurations: Iterable[Configuration]) -> list[tuple[tuple[str, str], ...]]:
    return sorted({tuple(sorted(each.items())) for each in configurations})


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
