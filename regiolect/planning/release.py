"""What a release would do, and why: what is asked for, compared with what was built before."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from regiolect.contracts import Decision, RegionOutcome, SourceFiles, Target, failure_of, short
from regiolect.errors import (
    BackendUnavailable,
    BuildFailed,
    DeviceLost,
    ForeignArithmetic,
    RegiolectError,
    UnknownRegion,
    UnknownTarget,
)
from regiolect.identity.tuning import tuning_digest
from regiolect.model import ModelSpec, load_model_spec
from regiolect.planning.changes import Difference, differences
from regiolect.planning.kept import finished, kept_in_classes, latest_of, outdated, to_be_timed_again
from regiolect.planning.plan import Action, Plan, PlannedEngine
from regiolect.planning.request import RegionRequest, has_classes, region_parts, request_like, requests_for
from regiolect.planning.retired import FindStore, Place, kept_elsewhere, kept_places, retired
from regiolect.planning.served import Champions, Served
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.scoped_cache import one_look
from regiolect.settings import Settings
from regiolect.storage import Store

Stores = Callable[[str], Store]
"""A region's store, by the region's name."""


def plan_release(
    address: str,
    spec: ModelSpec,
    policies: PolicyBook,
    stores: Stores,
    regions: Sequence[str] | None = None,
    *,
    targets: Sequence[str] | None = None,
    force: bool = False,
    on_pools: bool = False,
    elsewhere: FindStore | None = None,
    champions: Champions | None = None,
) -> Plan:
    """Compare what is asked for with what the stores hold. Reads files' digests, runs nothing.

    A region whose policy or data is unusable is planned as refused, so that it does not stop the others; so is a target
    whose backend is not installed, or whose device does not answer. Every file is read in this very call, once: no
    digest of an earlier plan is trusted.

    Args:
        address: where the spec was found; workers find it there again.
        regions: default: every region that has both a policy and data of the model's.
        targets: build for these only; what other targets have is reused where it is unchanged, else left alone.
        force: plan everything as a build.
        on_pools: engines are built on other machines; each target is taken for what it was when last seen.
        elsewhere: finds the stores of regions that are not asked for, in which an engine to retire may be kept; without
            it only the stores of the regions that are asked for are looked into.
        champions: asks the registry what is served; without it nothing is planned to be promoted. It is asked only
            where an approved engine may not be served.

    Raises:
        UnknownRegion: a named region has no policy or no data.
        UnknownTarget: no policy of these regions has a named target.
    """
    plan = plan_whatever_targets(
        address,
        spec,
        policies,
        stores,
        regions,
        targets=targets,
        force=force,
        on_pools=on_pools,
        elsewhere=elsewhere,
        champions=champions,
    )
    require_known(targets or (), plan.engines)
    return plan


def plan_here(
    settings: Settings,
    model: str,
    regions: Sequence[str] | None,
    *,
    targets: Sequence[str] | None,
    force: bool,
    everywhere: bool = False,
    champions: Champions | None = None,
) -> Plan:
    """`plan_release` with the policies and stores of this installation.

    Args:
        everywhere: look for engines to retire in the stores of other regions as well.
        champions: as for `plan_release`.

    Raises:
        UnknownModel, InvalidModelSpec, UnknownRegion, UnknownTarget, PolicyError.
    """
    return plan_release(
        model,
        load_model_spec(model),
        PolicyBook(settings.policies),
        settings.store,
        regions,
        targets=targets,
        force=force,
        on_pools=settings.on_pools,
        elsewhere=settings.find_store if everywhere else None,
        champions=champions,
    )


def plan_whatever_targets(
    address: str,
    spec: ModelSpec,
    policies: PolicyBook,
    stores: Stores,
    regions: Sequence[str] | None = None,
    *,
    targets: Sequence[str] | None = None,
    force: bool = False,
    on_pools: bool = False,
    elsewhere: FindStore | None = None,
    champions: Champions | None = None,
) -> Plan:
    """`plan_release`, without a complaint about targets that none of these regions has: another model's may have them.

    Raises:
        UnknownRegion: a named region has no policy or no data.
    """
    named = _regions(spec, policies, regions)
    with one_look():
        asked = _Asked(address, spec, spec.source(), targets, force, on_pools)
        served = Served(champions) if champions is not None else None
        engines: list[PlannedEngine] = []
        places: dict[Place, Store] = {}
        for region in named:
            try:
                policy, store = policies.load(region), stores(region)
                places.update(kept_places(spec.name, store))
                planned = _plan_region(asked, policy, store)
                engines.extend(served.told(spec.name, planned, policy, store) if served else planned)
            except RegiolectError as error:
                engines.append(_refused(region, error))
        if elsewhere is not None and not regions:
            found, unseen = kept_elsewhere(spec, policies, elsewhere)
            places, engines = {**found, **places}, [*engines, *unseen]
        if not targets:
            engines.extend(retired(spec, policies, places, regions or None))
    registry = served.failure if served else None
    return Plan(model=address, name=spec.name, note=spec.note, engines=tuple(engines), registry=registry)


def _regions(spec: ModelSpec, policies: PolicyBook, regions: Sequence[str] | None) -> tuple[str, ...]:
    known = policies.regions()
    named = tuple(dict.fromkeys(regions)) if regions else tuple(region for region in known if region in spec.data)
    if not named:
        raise UnknownRegion(
            expected=f"a region with a policy in {policies.folder} and with data in ModelSpec {spec.name!r}",
            found=f"policies: {', '.join(known)}; data: {', '.join(sorted(spec.data)) or 'none'}",
            remedy="write a policy for one of the model's regions, or add data for one of the policies' regions",
        )
    unknown = [region for region in named if region not in known]
    if unknown:
        policies.load(unknown[0])
    for region in named:
        spec.region_data(region)
    return named


@dataclass(frozen=True)
class _Asked:
    """What is the same for every region of a plan."""

    address: str
    spec: ModelSpec
    source: SourceFiles
    targets: Sequence[str] | None
    force: bool
    on_pools: bool

    def wants(self, target: Target) -> bool:
        return not self.targets or target.name in self.targets


def require_known(targets: Sequence[str], engines: Sequence[PlannedEngine]) -> None:
    """Raises UnknownTarget if one of the targets is none of the planned engines'."""
    known = sorted({engine.target for engine in engines if engine.target})
    unknown = [target for target in targets if target not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise UnknownTarget(
            expected=f"targets that the policies of {', '.join(dict.fromkeys(e.region for e in engines))} name",
            found=f"{unknown[0]!r}; they name {', '.join(known) or 'none that is usable'}",
            remedy=f"did you mean {near[0]!r}?" if near else "name one of those, or add the target to a policy",
        )


def _plan_region(asked: _Asked, policy: RegionPolicy, store: Store) -> tuple[PlannedEngine, ...]:
    policy.shapes_for(asked.spec.inputs)
    shared = region_parts(asked.spec, asked.source, policy)

    def planned(target: Target) -> Iterator[PlannedEngine]:
        try:
            requests = requests_for(asked.address, asked.spec, policy, target, shared, store, on_pools=asked.on_pools)
        except (BackendUnavailable, BuildFailed, DeviceLost, ForeignArithmetic) as error:
            requests, refused = (), _refused(policy.region, error, policy, target)
            yield refused if asked.wants(target) else _left_alone(refused)
        for request in requests:
            yield _plan_engine(asked, request, store)
        if has_classes(policy, target):
            taken = {request.arithmetic for request in requests}
            for latest in kept_in_classes(asked.spec.name, policy, target, store):
                if latest.arithmetic not in taken:
                    found = without_machine(request_like(latest, asked.address, policy, target, shared), latest, store)
                    yield found if found.action == "carry" or asked.wants(target) else _left_alone(found)

    return tuple(engine for target in policy.targets for engine in planned(target))


def _left_alone(planned: PlannedEngine) -> PlannedEngine:
    """What is planned for a target that nobody asked for, whose engine is neither made nor unchanged."""
    changes = {"action": "skip", "reason": f"left out of this release ({planned.reason})", "failure": None}
    return planned.model_copy(update=changes)


def _plan_engine(asked: _Asked, request: RegionRequest, store: Store) -> PlannedEngine:
    wanted = asked.wants(request.target)
    forced = asked.force and wanted
    known = None if forced else finished(request, store)
    if known is not None:
        action, reason = _standing(known)
        return _planned(request, action, reason, known)
    latest = latest_of(request, store)
    changed = differences(latest.key_parts, request, store) if latest is not None else ()
    reason = "asked for with --force" if forced else why_built(request, latest, changed)
    there = latest if latest is not None and latest.engine is not None else None
    if not wanted:
        return _planned(request, "skip", f"left out of this release ({reason})", there, changed)
    return _planned(request, "build" if there is None else "rebuild", reason, there, changed)


def _planned(
    request: RegionRequest,
    action: Action,
    reason: str,
    there: RegionOutcome | None,
    changed: tuple[Difference, ...] = (),
) -> PlannedEngine:
    return PlannedEngine(
        region=request.region,
        title=request.policy.title,
        target=request.target.name,
        arithmetic=request.arithmetic,
        precision=request.policy.precision,
        action=action,
        reason=reason,
        differences=changed,
        kept=there.build_key if there else None,
        request=request,
        decision=there.decision if there else None,
        tuning=tuning_digest(there) if there else None,
    )


def without_machine(request: RegionRequest, latest: RegionOutcome | None, store: Store) -> PlannedEngine:
    """What becomes of an engine of a class that no machine is there for.

    It goes on being served while it is what a release of today asks for, whatever became of code and libraries.

    Args:
        request: as `request_like` makes it, where there is an engine.
        latest: what the last run in that class came to.
    """
    gone, known = f"no machine of class {request.arithmetic} is there", finished(request, store)
    if known is not None and known.decision is Decision.APPROVED:
        return _planned(request, "carry", f"unchanged since build {short(known.build_key)}, and {gone}", known)
    changed = differences(latest.key_parts, request, store) if latest is not None else ()
    why = f"{known.decision} in its last build" if known is not None else why_built(request, latest, changed)
    return _planned(request, "drop", f"the next version is without it: {gone} ({why})", None, changed)


def _standing(known: RegionOutcome) -> tuple[Action, str]:
    """What a finished outcome means for a release in which nothing changed for it."""
    build = f"build {short(known.build_key)}"
    if known.decision in (Decision.FAILED, Decision.INCONCLUSIVE):
        return "refuse", f"{known.decision} in {build}, and nothing changed since: {'; '.join(known.reasons)}"
    return "reuse", f"unchanged since {build}"


def why_built(request: RegionRequest, latest: RegionOutcome | None, changed: Sequence[Difference]) -> str:
    """Why there is no finished outcome of a request's build key, in words.

    Args:
        latest: what the last run came to.
        changed: in what its build key differs.
    """
    if latest is None:
        return "never built"
    if to_be_timed_again(latest):
        return "blocked by latency in the last run: times are measured again"
    if latest.failure is not None:
        return f"the last run ended in {latest.failure.kind}"
    if changed:
        return f"changed: {', '.join(each.words for each in changed)}"
    return outdated(request, latest) or "its files are no longer in the store"


def _refused(
    region: str, error: RegiolectError, policy: RegionPolicy | None = None, target: Target | None = None
) -> PlannedEngine:
    return PlannedEngine(
        region=region,
        title=policy.title if policy else region,
        target=target.name if target else None,
        precision=policy.precision if policy else None,
        action="refuse",
        reason=f"{type(error).__name__}: {error.found}",
        failure=failure_of(error),
    )
