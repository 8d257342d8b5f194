"""A change of policies as whoever reviews it wants to see it: what differs, and what becomes of the engines.

Engines are to be built, rebuilt, refused, retired, or left alone. Read are the outcomes that the stores keep, and the
registry for what is served. Whether an engine would still be approved is worked out by the gate from its per-sample
results; what a record or a tag says of it is not believed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, PositiveInt

from regiolect.contracts import (
    Arithmetic,
    Attestation,
    Contract,
    Decision,
    Digest,
    EngineArtifact,
    EvaluationResult,
    GateDecision,
    RegionId,
    RegionOutcome,
    RegisteredEngine,
    Target,
    TargetId,
    short,
    slot_of,
)
from regiolect.errors import (
    BackendUnavailable,
    EvaluationError,
    GateRefused,
    IntegrityError,
    RegistryError,
    StorageError,
    UsageError,
)
from regiolect.integrity import digest_of
from regiolect.planning import LATEST, OUTCOMES, Stores, class_parts, engine_key, target_parts
from regiolect.policy import RegionPolicy
from regiolect.policy.difference import RegionChange, differences
from regiolect.policy.places import PolicyPlace, policies_at
from regiolect.policy.rules import is_demanded
from regiolect.provenance import too_old
from regiolect.registry import Registry
from regiolect.settings import Settings
from regiolect.storage import Store, blobs_of


class EngineEffect(Contract):
    """What becomes of one engine."""

    model: str
    region: RegionId
    target: TargetId
    arithmetic: Arithmetic | None = Field(default=None, exclude_if=operator.not_)
    action: Effect
    reason: str
    served: str | None = None
    build_key: Digest | None = None


class PolicyReview(Contract):
    """What differs between two sets of policies, and what that does to engines. `notes` say what is not told."""

    format: Literal[1] = 1
    old: str
    new: str
    compared: PositiveInt
    regions: tuple[RegionChange, ...]
    engines: tuple[EngineEffect, ...]
    notes: tuple[str, ...]


def review(old: str, new: str, settings: Settings) -> PolicyReview:
    """Compare two sets of policies. Loads no model, starts nothing and changes nothing.

    Args:
        old, new: a folder, a single file, or a git revision of the project's policies.

    Raises:
        UsageError: there is no such place, or two files are about two regions.
        PolicyError: policies have mistakes; all of one place's are named.
        BackendUnavailable: engines are there to be judged, and the gate's libraries are not.
    """
    with policies_at(old, settings.policies) as before, policies_at(new, settings.policies) as after:
        regions = _compared(before, after)
        changes = differences(before.book, after.book, regions)
        policies = {region: after.book.load(region) for region in regions if region in after.book.regions()}
    concerned = [change for change in changes if change.old_policy != change.new_policy]
    engines, notes = _consequences(concerned, policies, settings) if concerned else ((), [])
    added = [change.region for change in changes if change.change == "added"]
    return PolicyReview(
        old=before.name,
        new=after.name,
        compared=len(regions),
        regions=changes,
        engines=engines,
        notes=(*(f"{region} is new: each model that has data of it gets an engine" for region in added), *notes),
    )


def _compared(before: PolicyPlace, after: PolicyPlace) -> Collection[str]:
    """The regions to compare: that of a file, else all of both places, none of which may have a mistake."""
    single = {place.region for place in (before, after) if place.region is not None}
    if len(single) > 1:
        raise UsageError(
            expected="two files about one region, or two folders",
            found=f"{before.name} is about {before.region!r}, {after.name} about {after.region!r}",
            remedy="compare the folders that they lie in",
        )
    if single:
        return single
    for place in (before, after):
        place.book.all()
    return {*before.book.regions(), *after.book.regions()}


def _consequences(
    changes: Sequence[RegionChange], policies: Mapping[str, RegionPolicy], settings: Settings
) -> tuple[tuple[EngineEffect, ...], list[str]]:
    registry = Registry.of(settings)
    kept = kept_engines([change.region for change in changes], settings.store, registry.champions)
    return effects(changes, policies, kept, settings.store), kept.notes


Effect = Literal["refuse", "retire", "rebuild", "build", "nothing", "unknown"]
"""refuse: the gate would no longer approve what is kept, so it must not be served; the next release builds anew.
retire: its target or region is no longer named. rebuild: the build key changes, what is kept would still be approved or
never was. build: a target that had no engine. nothing: it stays as it is. unknown: it is served, and not in the store.
"""


@dataclass
class Kept:
    """What there is of engines in some regions. `notes` say what could not be read."""

    outcomes: list[RegionOutcome] = field(default_factory=list)
    served: dict[str, str] = field(default_factory=dict)
    unknown: list[EngineEffect] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def kept_engines(
    regions: Collection[str], stores: Stores, champions: Callable[[], Mapping[str, RegisteredEngine]]
) -> Kept:
    """The engines of some regions: of each model and target what is served, else what was made last.

    A store or a registry that cannot be read is told in `notes`.

    Args:
        regions: old and new ones.
        stores: a region's store.
        champions: what is served, by registered name.
    """
    kept = Kept()
    opened: dict[str, Store] = {}
    latest: dict[str, RegionOutcome] = {}
    for region in sorted(regions):
        try:
            opened[region] = store = stores(region)
            if not any(store is other for name, other in opened.items() if name != region):
                latest.update((_slot(each), each) for each in store.records(LATEST, RegionOutcome))
        except StorageError as error:
            opened.pop(region, None)
            kept.notes.append(f"the store of {region} was not read ({type(error).__name__}: {error.found})")
    try:
        versions = champions()
    except RegistryError as error:
        versions = {}
        kept.notes.append(f"what is served is not known: the registry was not read ({error.found})")
    for name, version in versions.items():
        owner = max((each for each in regions if name.endswith(f"-{each}")), key=len, default=None)
        if owner is not None and owner in opened:
            _add_served(kept, latest, name.removesuffix(f"-{owner}"), owner, version, opened[owner])
    kept.outcomes = [outcome for _, outcome in sorted(latest.items()) if outcome.region in regions]
    if not kept.outcomes and not kept.unknown and not kept.notes:
        kept.notes.append("no engine of these regions is kept here, so only the policies' own differences are told")
    return kept


def _add_served(
    kept: Kept, latest: dict[str, RegionOutcome], model: str, region: str, version: RegisteredEngine, store: Store
) -> None:
    """Put what is served in the place of what was made last."""
    classes = version.arithmetics or (None,) * len(version.targets)
    for target, arithmetic, key in zip(version.targets, classes, version.build_keys, strict=False):
        outcome = store.get_record(OUTCOMES, key, RegionOutcome)
        # The tags only say where to look: what is found there must be what they name.
        if outcome is None or (outcome.build_key, outcome.model, outcome.region) != (key, model, region):
            reason = f"its results ({short(key)}) are not in this store, so it cannot be told here"
            kept.unknown.append(
                EngineEffect(
                    model=model,
                    region=region,
                    target=target,
                    arithmetic=arithmetic,
                    action="unknown",
                    reason=reason,
                    served=version.uri,
                )
            )
            latest.pop(engine_key(model, region, slot_of(target, arithmetic)), None)
            continue
        latest[_slot(outcome)] = outcome
        kept.served[key] = version.uri


def _slot(outcome: RegionOutcome) -> str:
    return engine_key(outcome.model, outcome.region, outcome.slot)


def effects(
    changes: Sequence[RegionChange], policies: Mapping[str, RegionPolicy], kept: Kept, stores: Stores
) -> tuple[EngineEffect, ...]:
    """What becomes of every engine in the regions that change.

    Args:
        changes: what differs.
        policies: the new ones, by region; a region that is removed has none.
        kept: the engines.
        stores: a region's store, which holds their per-sample results.
    """
    rows: list[EngineEffect] = []
    for change in changes:
        policy = policies.get(change.region)
        outcomes = [outcome for outcome in kept.outcomes if outcome.region == change.region]
        rows.extend(_effect(outcome, policy, change, kept, stores(change.region)) for outcome in outcomes)
        unknown = [each for each in kept.unknown if each.region == change.region]
        rows.extend(unknown)
        if policy is not None:
            there = {(each.model, each.target.name) for each in outcomes} | {(e.model, e.target) for e in unknown}
            rows.extend(_to_build(policy, there))
    return tuple(rows)


def _effect(
    outcome: RegionOutcome, policy: RegionPolicy | None, change: RegionChange, kept: Kept, store: Store
) -> EngineEffect:
    action, reason = _decided(outcome, policy, change, outcome.build_key in kept.served, store)
    return EngineEffect(
        model=outcome.model,
        region=outcome.region,
        target=outcome.target.name,
        arithmetic=outcome.arithmetic,
        action=action,
        reason=reason,
        served=kept.served.get(outcome.build_key),
        build_key=outcome.build_key,
    )


def _decided(
    outcome: RegionOutcome, policy: RegionPolicy | None, change: RegionChange, served: bool, store: Store
) -> tuple[Effect, str]:
    if policy is None:
        return "retire", f"no policy names region {outcome.region} any more"
    target = next((each for each in policy.targets if each.name == outcome.target.name), None)
    if target is None:
        return "retire", f"the policy of {outcome.region} names target {outcome.target.name} no more"
    if outcome.arithmetic is not None and target.arithmetic and outcome.arithmetic not in target.arithmetic:
        return "retire", f"the policy of {outcome.region} takes class {outcome.arithmetic} for {target.name} no more"
    if policy.has_digest(outcome.key_parts.get("policy")):
        return "nothing", "built under the new policy already"
    approved = served or outcome.decision is Decision.APPROVED
    broken, holds = _judged(outcome, policy, store) if approved else (None, f"the last run ended {outcome.decision}")
    if broken is not None:
        return "refuse", broken
    if _built_before(outcome, policy, target, store):
        return "nothing", f"built under this very policy before, and reused; {holds}"
    return "rebuild", f"changed: {', '.join(_changed(outcome, target, change))}; {holds}"


def _changed(outcome: RegionOutcome, target: Target, change: RegionChange) -> Iterator[str]:
    """What in the build key changes."""
    if outcome.key_parts.get("policy") != change.old_policy:
        yield "policy (the engine was built under neither of the two)"
    else:
        names = [each.key for each in change.fields if is_demanded(each.key)]
        yield f"policy ({', '.join(names)})" if names else "policy"
    if target.backend != outcome.target.backend:
        yield f"target ({outcome.target.backend} -> {target.backend})"


def _judged(outcome: RegionOutcome, policy: RegionPolicy, store: Store) -> tuple[str | None, str]:
    """Why an engine could not be served under a policy, or None; and what holds, for one that could."""
    engine, attestation, evaluation = outcome.engine, outcome.attestation, outcome.evaluation
    if engine is None or attestation is None or evaluation is None:
        return "it has no results to be judged by", ""
    if evaluation.metric != policy.accuracy.metric:
        return None, f"its results are of {evaluation.metric}, so the new engine is judged afresh"
    allowed = (policy.precision, *policy.wider_precisions())
    reasons = []
    if engine.request.precision not in allowed:
        reasons.append(f"precision: a graph of {engine.request.precision}, the policy allows {', '.join(allowed)}")
    try:
        decision = _decision_now(engine, policy, attestation, evaluation, store)
    except (GateRefused, EvaluationError, IntegrityError, StorageError) as error:
        # What cannot be shown to hold does not hold.
        reasons.append(f"{type(error).__name__}: expected {error.expected}; found {error.found}")
    else:
        reasons += decision.reasons if decision.verdict is not Decision.APPROVED else ()
        holds = _too_old(outcome, policy) or f"still approved: {decision.reasons[0]}"
    return ("; ".join(reasons), "") if reasons else (None, holds)


def _decision_now(
    engine: EngineArtifact, policy: RegionPolicy, attestation: Attestation, evaluation: EvaluationResult, store: Store
) -> GateDecision:
    try:
        from regiolect.evaluate.results import PairedResults
        from regiolect.gate import decide_gate
    except ImportError as error:
        raise BackendUnavailable(
            expected="the libraries that the gate needs, to judge kept engines by the new policy",
            found=str(error),
            remedy="pip install 'regiolect[release]'",
        ) from error
    rows = PairedResults.from_csv(store.path_of(evaluation.results))
    return decide_gate(engine, policy, attestation, evaluation, rows)


def _too_old(outcome: RegionOutcome, policy: RegionPolicy) -> str | None:
    table = outcome.calibration
    return None if table is None else too_old(table.seal, policy.calibration.max_age_days)


def _built_before(outcome: RegionOutcome, policy: RegionPolicy, target: Target, store: Store) -> bool:
    """Whether the store has the engine that the next release would build, all else being as it was for this one."""
    if target.backend != outcome.target.backend or policy.accuracy.metric != _metric(outcome):
        return False
    asked = {
        "policy": policy.demands_digest(),
        **target_parts(target),
        **class_parts(policy, target, outcome.arithmetic),
    }
    parts = {**outcome.key_parts, **asked}
    kept = store.get_record(OUTCOMES, digest_of(parts), RegionOutcome)
    return (
        kept is not None
        and kept.engine is not None
        and kept.failure is None
        and _too_old(kept, policy) is None
        and all(store.has(blob) for blob in blobs_of(kept))
    )


def _metric(outcome: RegionOutcome) -> str | None:
    return outcome.evaluation.metric if outcome.evaluation is not None else None


def _to_build(policy: RegionPolicy, there: Collection[tuple[str, str]]) -> Iterator[EngineEffect]:
    """Targets that models of the region have no engine for. Of a region that is new no model is known here."""
    for model in sorted({model for model, _ in there}):
        for target in policy.targets:
            if (model, target.name) not in there:
                yield EngineEffect(
                    model=model, region=policy.region, target=target.name, action="build", reason="never built"
                )
