"""What a release would do, and why: what is asked for, compared with what was built before."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from regiolect.contracts import Decision, RegionOutcome, SourceFiles, Target, failure_of, short
from regiolect.engines.catalog import backend
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
from regiolect.model import ModelSpec
from regiolect.planning.address import load_model_spec
from regiolect.planning.asked import Installation, ReleaseRequest
from regiolect.planning.changes import Difference, differences
from regiolect.planning.kept import finished, kept_in_classes, latest_of, outdated, to_be_timed_again
from regiolect.planning.plan import Action, Plan, PlannedEngine
from regiolect.planning.request import RegionRequest, has_classes, region_parts, request_like, requests_for
from regiolect.planning.retired import Place, kept_elsewhere, kept_places, retired
from regiolect.planning.served import Champions, Served
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.policy.elsewhere import folder_option, folder_with
from regiolect.scoped_cache import one_look
from regiolect.settings import Settings
from regiolect.storage import Store


def plan_release(asked: ReleaseRequest, spec: ModelSpec, here: Installation) -> Plan:
    """Compare what is asked for with what the stores hold. Reads files' digests, runs nothing.

    A region whose policy or data is unusable is planned as refused, so that it does not stop the others; so is a target
    whose backend is not installed, or whose device does not answer. Every file is read in this very call, once: no
    digest of an earlier plan is trusted.

    Args:
        asked: its model's address is where workers find the spec again.
        spec: what is found there.
        here: what is there already, and the policies.

    Raises:
        UnknownRegion: a named region has no policy or no data.
        UnknownTarget: no policy of these regions has a named target.
    """
    plan = plan_whatever_targets(asked, spec, here)
    require_known(asked.targets, plan.engines)
    return plan


def plan_here(
    settings: Settings, asked: ReleaseRequest, *, everywhere: bool = False, champions: Champions | None = None
) -> Plan:
    """`plan_release` with the policies and stores of this installation.

    Args:
        everywhere, champions: as for `Installation.of`.

    Raises:
        UnknownModel, InvalidModelSpec, UnknownRegion, UnknownTarget, PolicyError.
    """
    spec = load_model_spec(asked.address)
    return plan_release(asked, spec, Installation.of(settings, everywhere=everywhere, champions=champions))


def request_here(here: Installation, address: str, region: str, target: str) -> RegionRequest:
    """One engine's request, with no plan around it: by the policies, data and code of this machine, whatever those of
    whoever asks are. What the machine itself is, `on_this_machine` finds out.

    Raises:
        UnknownModel, InvalidModelSpec, UnknownRegion, UnknownTarget, PolicyError: there is no such, or it is unusable.
        DataError, StorageError: the region's data or store is unusable.
    """
    spec, policy, store = load_model_spec(address), here.policies.load(region), here.stores(region)
    policy.shapes_for(spec.inputs)
    named = next((each for each in policy.targets if each.name == target), None)
    if named is None:
        raise _unknown_target(target, [region], [each.name for each in policy.targets])
    with one_look():
        shared = region_parts(spec, spec.source(), policy)
        requests = requests_for(address, spec, policy, named, shared, store, on_pools=True)
    # Of several classes of arithmetic the one that this machine computes in.
    arithmetic = backend(named.backend).arithmetic()
    return next((each for each in requests if each.arithmetic is arithmetic), requests[0])


def plan_whatever_targets(asked: ReleaseRequest, spec: ModelSpec, here: Installation) -> Plan:
    """`plan_release`, without a complaint about targets that none of these regions has: another model's may have them.

    Raises:
        UnknownRegion: a named region has no policy or no data.
    """
    policies, regions = here.policies, asked.regions
    named = _regions(spec, policies, regions)
    with one_look():
        look = _Look(asked, spec, spec.source(), here.on_pools)
        served = Served(here.champions) if here.champions is not None else None
        engines: list[PlannedEngine] = []
        places: dict[Place, Store] = {}
        for region in named:
            try:
                policy, store = policies.load(region), here.stores(region)
                places.update(kept_places(spec.name, store))
                planned = _plan_region(look, policy, store)
                engines.extend(served.told(spec.name, planned, policy, store) if served else planned)
            except RegiolectError as error:
                engines.append(_refused(region, error))
        if here.elsewhere is not None and not regions:
            kept, unseen = kept_elsewhere(spec, policies, here.elsewhere)
            places, engines = {**kept, **places}, [*engines, *unseen]
        if not asked.targets:
            engines.extend(retired(spec, policies, places, regions or None))
    registry = served.failure if served else None
    return Plan(address=asked.address, name=spec.name, note=spec.note, engines=tuple(engines), registry=registry)


def _regions(spec: ModelSpec, policies: PolicyBook, regions: Sequence[str] | None) -> tuple[str, ...]:
    available = policies.regions()
    named = tuple(dict.fromkeys(regions)) if regions else tuple(region for region in available if region in spec.data)
    if not named:
        raise UnknownRegion(
            expected=f"a region with a policy in {policies.folder} and with data in ModelSpec {spec.name!r}",
            found=f"policies: {', '.join(available)}; data: {', '.join(sorted(spec.data)) or 'none'}",
            remedy=f"name the folder of the policies: {folder_option(folder_with(spec.data))}; or write a policy for "
            "one of the model's regions, or add data for one of the policies' regions",
        )
    unknown = [region for region in named if region not in available]
    if unknown:
        policies.load(unknown[0])
    for region in named:
        spec.region_data(region)
    return named


@dataclass(frozen=True)
class _Look:
    """What is the same for every region of a plan."""

    asked: ReleaseRequest
    spec: ModelSpec
    source: SourceFiles
    on_pools: bool

    def wants(self, target: Target) -> bool:
        return not self.asked.targets or target.name in self.asked.targets


def require_known(targets: Sequence[str], engines: Sequence[PlannedEngine]) -> None:
    """Raises UnknownTarget if one of the targets is none of the planned engines'."""
    names = sorted({engine.target for engine in engines if engine.target})
    unknown = [target for target in targets if target not in names]
    if unknown:
        raise _unknown_target(unknown[0], dict.fromkeys(engine.region for engine in engines), names)


def _unknown_target(target: str, regions: Iterable[str], names: Sequence[str]) -> UnknownTarget:
    near = difflib.get_close_matches(target, names, n=1)
    return UnknownTarget(
        expected=f"targets that the policies of {', '.join(regions)} name",
        found=f"{target!r}; they name {', '.join(names) or 'none that is usable'}",
        remedy=f"did you mean {near[0]!r}?" if near else "name one of those, or add the target to a policy",
    )


def _plan_region(look: _Look, policy: RegionPolicy, store: Store) -> tuple[PlannedEngine, ...]:
    policy.shapes_for(look.spec.inputs)
    shared = region_parts(look.spec, look.source, policy)

    def planned(target: Target) -> Iterator[PlannedEngine]:
        try:
            requests = requests_for(
                look.asked.address, look.spec, policy, target, shared, store, on_pools=look.on_pools
            )
        except (BackendUnavailable, BuildFailed, DeviceLost, ForeignArithmetic) as error:
            requests, refused = (), _refused(policy.region, error, policy, target)
            yield refused if look.wants(target) else _left_alone(refused)
        for request in requests:
            yield _plan_engine(look, request, store)
        if has_classes(policy, target):
            taken = {request.arithmetic for request in requests}
            for latest in kept_in_classes(look.spec.name, policy, target, store):
                if latest.arithmetic not in taken:
                    carried = without_machine(
                        request_like(latest, look.asked.address, policy, target, shared), latest, store
                    )
                    yield carried if carried.action == "carry" or look.wants(target) else _left_alone(carried)

    return tuple(engine for target in policy.targets for engine in planned(target))


def _left_alone(planned: PlannedEngine) -> PlannedEngine:
    """What is planned for a target that nobody asked for, whose engine is neither made nor unchanged."""
    changes = {"action": "skip", "reason": f"left out of this release ({planned.reason})", "failure": None}
    return planned.model_copy(update=changes)


def _plan_engine(look: _Look, request: RegionRequest, store: Store) -> PlannedEngine:
    wanted = look.wants(request.target)
    forced = look.asked.force and wanted
    outcome = None if forced else finished(request, store)
    if outcome is not None:
        action, reason = _standing(outcome)
        return _planned(request, action, reason, outcome)
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
    gone, outcome = f"no machine of class {request.arithmetic} is there", finished(request, store)
    if outcome is not None and outcome.decision is Decision.APPROVED:
        return _planned(request, "carry", f"unchanged since build {short(outcome.build_key)}, and {gone}", outcome)
    changed = differences(latest.key_parts, request, store) if latest is not None else ()
    why = f"{outcome.decision} in its last build" if outcome is not None else why_built(request, latest, changed)
    return _planned(request, "drop", f"the next version is without it: {gone} ({why})", None, changed)


def _standing(outcome: RegionOutcome) -> tuple[Action, str]:
    """What a finished outcome means for a release in which nothing changed for it."""
    build = f"build {short(outcome.build_key)}"
    if outcome.decision in (Decision.FAILED, Decision.INCONCLUSIVE):
        return "refuse", f"{outcome.decision} in {build}, and nothing changed since: {'; '.join(outcome.reasons)}"
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
