"""What builds came to, as it lies in a region's store: under the build key, as the latest of its target, for a run."""

from __future__ import annotations

from collections.abc import Iterator

from regiolect.contracts import Arithmetic, HeldBack, RegionAnswer, RegionOutcome, SourceFiles, Target, slot_of
from regiolect.host.arithmetic import arithmetic_of
from regiolect.host.interrupts import stand_still
from regiolect.planning.request import RegionRequest, engine_key, parts_of
from regiolect.policy import RegionPolicy
from regiolect.provenance import too_old
from regiolect.scoped_cache import once
from regiolect.storage import Store, blobs_of

OUTCOMES = "outcomes"
LATEST = "latest"
POLICIES = "policies"
FILES = "files"
RUNS = "runs"
HELD = "held"


def finished(request: RegionRequest, store: Store) -> RegionOutcome | None:
    """The outcome kept under a request's build key, if it came to a decision that stands and the store still has its
    engine; with the region's title of today. One whose calibration is older than the policy allows stands no longer."""
    outcome = store.get_record(OUTCOMES, request.build_key, RegionOutcome)
    if (
        outcome is None
        or to_be_timed_again(outcome)
        or outdated(request, outcome) is not None
        or outcome.build_key != request.build_key
        or outcome.failure is not None
        or outcome.engine is None
    ):
        return None
    if not all(store.has(blob) for blob in blobs_of(outcome)):
        return None
    return outcome.model_copy(update={"title": request.policy.title})


def to_be_timed_again(outcome: RegionOutcome) -> bool:
    """Whether latency alone blocked it. Answers are the same in every run; times are not, and a busy hour must not
    block a region for good."""
    return outcome.gate is not None and not {"latency", "throughput", "speedup"}.isdisjoint(outcome.gate.blocked_by)


def outdated(request: RegionRequest, outcome: RegionOutcome) -> str | None:
    """Why an outcome's calibration holds no longer."""
    table = outcome.calibration
    return None if table is None else too_old(table.seal, request.policy.calibration.max_age_days)


def keep(outcome: RegionOutcome, request: RegionRequest, store: Store) -> None:
    """Keep an outcome as the latest of its region, target and class and, last, under its build key; and the policy and
    the files and sets of model, data and metric, so that a later plan can say what changed in them."""
    stand_still()
    as_signed(request.policy, store)
    for part in parts_of(request).values():
        if (part.files or part.sets) and source_of(part.digest, store) != part:
            store.put_record(FILES, part.digest, part)
    store.put_record(LATEST, latest_key(request), outcome)
    store.put_record(OUTCOMES, outcome.build_key, outcome)


def answer(run: str, outcome: RegionOutcome, request: RegionRequest, store: Store, *, built: bool) -> RegionAnswer:
    """Keep what a region's flow run came to and, last, tell whoever waits for that run, on whatever machine."""
    if built:
        keep(outcome, request, store)
    else:
        stand_still()
        store.put_record(LATEST, latest_key(request), outcome)
    return tell(run, outcome, store, built=built)


def tell(run: str, outcome: RegionOutcome, store: Store, *, built: bool) -> RegionAnswer:
    """Tell whoever waits for a run what it came to, and leave what is kept of the engine as it is."""
    # A command that was interrupted is about to end; what its ending does to a region is no outcome.
    stand_still()
    record = RegionAnswer(outcome=outcome, built=built)
    store.put_record(RUNS, run, record)
    return record


def answer_of(run: str, store: Store) -> RegionAnswer | None:
    """What a region's flow run told; None if it did not come that far."""
    return store.get_record(RUNS, run, RegionAnswer)


def latest_of(request: RegionRequest, store: Store) -> RegionOutcome | None:
    """What the last run of a request's model, region, target and class came to, under whatever build key.

    Where there was none in this slot, it is that of another: a run from before there were classes is the last of its
    processor's class, and an engine that was of classes is what one of another precision follows.
    """
    target = request.target
    latest = store.get_record(LATEST, latest_key(request), RegionOutcome)
    if latest is not None:
        return latest
    if request.arithmetic is None:
        return next(kept_in_classes(request.name, request.policy, target, store), None)
    older = store.get_record(LATEST, engine_key(request.name, request.region, target.name), RegionOutcome)
    engine = older.engine if older is not None else None
    return older if engine is None or arithmetic_of(engine.fingerprint) is request.arithmetic else None


def kept_in_classes(model: str, policy: RegionPolicy, target: Target, store: Store) -> Iterator[RegionOutcome]:
    """What the last run came to in each class of arithmetic that a target's policy takes, where it had an engine."""
    keys = once(("latest", store), lambda: frozenset(store.record_keys(LATEST)))
    for arithmetic in target.arithmetic or Arithmetic:
        key = engine_key(model, policy.region, slot_of(target.name, arithmetic))
        latest = store.get_record(LATEST, key, RegionOutcome) if key in keys else None
        if latest is not None and latest.engine is not None:
            yield latest


def keep_held(model: str, region: str, held: HeldBack, store: Store) -> None:
    """Keep why a region's last version was held back."""
    store.put_record(HELD, f"{model}--{region}", held)


def held_of(model: str, region: str, store: Store) -> HeldBack | None:
    """Why a region's last version was held back, if one was: of which engines, and beside which champion."""
    return store.get_record(HELD, f"{model}--{region}", HeldBack)


def as_signed(policy: RegionPolicy, store: Store) -> RegionPolicy:
    """A policy in the words, title and reason, that all engines of what it demands are signed with: those that it had
    when the first of them was built, kept since then. A bundle holds one policy, and new words rebuild nothing."""
    digest = policy.demands_digest()
    first = policy_of(digest, store)
    if first is None:
        stand_still()
        store.put_record(POLICIES, digest, policy)
    return first or policy


def policy_of(digest: str, store: Store) -> RegionPolicy | None:
    """The policy of that digest under which something was built; None if it was not kept, or no longer reads as it."""
    policy = store.get_record(POLICIES, digest, RegionPolicy)
    return policy if policy is not None and policy.has_digest(digest) else None


def source_of(digest: str, store: Store) -> SourceFiles | None:
    """Files and sets of the model, data or metric of that digest, as they were when something was built; None: not
    kept."""
    return store.get_record(FILES, digest, SourceFiles)


def latest_key(request: RegionRequest) -> str:
    """Key of the latest outcome of a model in a region on a target, in a class."""
    return engine_key(request.name, request.region, request.slot)
