"""What a release would do, and why: build keys, and the comparison with what was built before.

A build key is the digest of everything that an engine depends on. It is made of inputs alone, so it is known before
anything runs: same key, nothing is rebuilt; another key, the parts that differ are named.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from regiolect.contracts import (
    Contract,
    Decision,
    Digest,
    Failure,
    Precision,
    RegionAnswer,
    RegionId,
    RegionOutcome,
    Target,
    TargetId,
    TargetMachine,
    failure_of,
    short,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ChangedMeanwhile, OtherVersion, RegiolectError, UnknownRegion, UnknownTarget
from regiolect.integrity import digest_of, own_code, toolchain
from regiolect.model import ModelSpec, load_model_spec
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.settings import Settings
from regiolect.storage import Store, blobs_of

OUTCOMES = "outcomes"
LATEST = "latest"
MACHINES = "machines"
RUNS = "runs"

Stores = Callable[[str], Store]
"""A region's store, by the region's name."""


class RegionRequest(Contract):
    """One engine to be had: a model, a region's policy and a target, under the build key they give."""

    model: str = Field(description="address of the ModelSpec: package.module:NAME, or an entry point")
    name: str
    policy: RegionPolicy
    target: Target
    build_key: Digest
    key_parts: Mapping[str, str]

    @property
    def region(self) -> str:
        return self.policy.region

    def built_with(self, parts: Mapping[str, str]) -> RegionRequest:
        """The same request under the key that it has with these parts."""
        parts = {**self.key_parts, **parts}
        return self.model_copy(update={"build_key": digest_of(parts), "key_parts": parts})


Action = Literal["build", "reuse", "skip", "refuse"]


class PlannedEngine(Contract):
    """What the plan says of one region on one target; of the region as a whole where its policy or data is unusable."""

    region: RegionId
    title: str
    target: TargetId | None
    precision: Precision | None
    action: Action
    reason: str
    request: RegionRequest | None = None
    decision: Decision | None = Field(default=None, description="what the gate said of an engine that is reused")
    failure: Failure | None = None


class Plan(Contract):
    """Every engine that a release is asked for."""

    model: str
    name: str
    note: str = ""
    engines: tuple[PlannedEngine, ...]

    def requests(self, *actions: Action) -> tuple[RegionRequest, ...]:
        """The requests of these kinds, in the plan's order; of all that are not left out when none is named."""
        wanted = actions or ("build", "reuse")
        return tuple(engine.request for engine in self.engines if engine.request and engine.action in wanted)

    def summary(self) -> str:
        """The plan in a line."""
        counts = Counter(engine.action for engine in self.engines)
        words: dict[Action, str] = {"build": "to build", "reuse": "unchanged", "refuse": "refused", "skip": "left out"}
        told = [f"{counts[action]} {said}" for action, said in words.items() if counts[action] or action != "skip"]
        return f"{self.name}: {', '.join(told)}"


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
) -> Plan:
    """Compare what is asked for with what the stores hold. Reads files' digests, runs nothing.

    A region whose policy or data is unusable is planned as refused, so that it does not stop the others.

    Args:
        address: where the spec was found; workers find it there again.
        regions: default: every region that has both a policy and data of the model's.
        targets: build for these only; what other targets have is reused where it is unchanged, else left alone.
        force: plan everything as a build.
        on_pools: engines are built on other machines; each target is taken for what it was when last seen.

    Raises:
        UnknownRegion: a named region has no policy or no data.
        UnknownTarget: no policy of these regions has a named target.
    """
    named = tuple(dict.fromkeys(regions)) if regions else tuple(r for r in policies.regions() if r in spec.data)
    if not named:
        raise UnknownRegion(
            expected=f"a region with a policy in {policies.folder} and with data in ModelSpec {spec.name!r}",
            found=f"policies: {', '.join(policies.regions())}; data: {', '.join(sorted(spec.data)) or 'none'}",
            remedy="write a policy for one of the model's regions, or add data for one of the policies' regions",
        )
    unknown = [region for region in named if region not in policies.regions()]
    if unknown:
        policies.load(unknown[0])
    for region in named:
        spec.region_data(region)
    asked = _Asked(address, spec, spec.source_digest(), targets, force, on_pools)
    engines: list[PlannedEngine] = []
    for region in named:
        try:
            engines.extend(_plan_region(asked, policies.load(region), stores(region)))
        except RegiolectError as error:
            engines.append(
                PlannedEngine(
                    region=region,
                    title=region,
                    target=None,
                    precision=None,
                    action="refuse",
                    reason=f"{type(error).__name__}: {error.found}",
                    failure=failure_of(error),
                )
            )
    if targets:
        _require_known(targets, engines)
    return Plan(model=address, name=spec.name, note=spec.note, engines=tuple(engines))


def plan_here(
    settings: Settings, model: str, regions: Sequence[str] | None, *, targets: Sequence[str] | None, force: bool
) -> Plan:
    """`plan_release` with the policies and stores of this installation.

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
    )


@dataclass(frozen=True)
class _Asked:
    """What is the same for every region of a plan."""

    address: str
    spec: ModelSpec
    source: str
    targets: Sequence[str] | None
    force: bool
    on_pools: bool


def _require_known(targets: Sequence[str], engines: Sequence[PlannedEngine]) -> None:
    known = sorted({engine.target for engine in engines if engine.target})
    unknown = [target for target in targets if target not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise UnknownTarget(
            expected=f"targets that the policies of {', '.join(dict.fromkeys(e.region for e in engines))} name",
            found=f"{unknown[0]!r}; they name {', '.join(known) or 'none that is usable'}",
            remedy=f"did you mean {near[0]!r}?" if near else "name one of those, or add the target to a policy",
        )


def _plan_region(asked: _Asked, policy: RegionPolicy, store: Store) -> Iterator[PlannedEngine]:
    data = asked.spec.region_data(policy.region).identity()
    policy.shapes_for(asked.spec.inputs)
    for target in policy.targets:
        parts = {
            "model": asked.source,
            "data": data,
            "metric": asked.spec.metric_digest(policy.accuracy.metric),
            "policy": policy.digest(),
            "recipe": digest_of(backend(target.backend).recipe(policy.precision)),
            "target": f"{target.name}/{target.backend}",
            "regiolect": own_code(),
            **(_last_seen(target, store) if asked.on_pools else machine_parts(target)),
        }
        request = RegionRequest(
            model=asked.address,
            name=asked.spec.name,
            policy=policy,
            target=target,
            build_key=digest_of(parts),
            key_parts=parts,
        )
        known = finished(request, store)
        action, reason = _decide(request, known, store, asked)
        yield PlannedEngine(
            region=policy.region,
            title=policy.title,
            target=target.name,
            precision=policy.precision,
            action=action,
            reason=reason,
            request=request,
            decision=known.decision if known is not None and action == "reuse" else None,
        )


def _decide(request: RegionRequest, known: RegionOutcome | None, store: Store, asked: _Asked) -> tuple[Action, str]:
    wanted = not asked.targets or request.target.name in asked.targets
    if asked.force and wanted:
        return "build", "asked for with --force"
    if known is not None:
        return "reuse", f"unchanged since build {short(request.build_key)}"
    reason = _why_built(request, store.get_record(LATEST, latest_key(request), RegionOutcome))
    return ("build", reason) if wanted else ("skip", f"left out of this release ({reason})")


def _why_built(request: RegionRequest, latest: RegionOutcome | None) -> str:
    if latest is None:
        return "never built"
    if _to_be_timed_again(latest):
        return "blocked by latency in the last run: times are measured again"
    if latest.failure is not None:
        return f"the last run ended in {latest.failure.kind}"
    changed = [
        _difference(name, latest.key_parts.get(name, "absent"), value)
        for name, value in request.key_parts.items()
        if latest.key_parts.get(name) != value
    ]
    if changed:
        return f"changed: {', '.join(changed)}"
    return _outdated(request, latest) or "its files are no longer in the store"


def machine_parts(target: Target) -> dict[str, str]:
    """The parts of a build key that depend on where the engine is built: libraries, and the machine they run on.

    Raises:
        BackendUnavailable: the backend's library is not installed here.
    """
    fingerprint = backend(target.backend).fingerprint()
    return {
        "backend": ", ".join(f"{name} {value}" for name, value in sorted(fingerprint.items())),
        "toolchain": toolchain(),
    }


def _last_seen(target: Target, store: Store) -> Mapping[str, str]:
    seen = store.get_record(MACHINES, _machine_key(target), TargetMachine)
    return seen.parts if seen is not None else dict.fromkeys(("backend", "toolchain"), "a machine not seen before")


def _machine_key(target: Target) -> str:
    return f"{target.name}--{target.backend}"


def on_this_machine(request: RegionRequest, store: Store) -> RegionRequest:
    """The request under the build key that it has here, for whoever sent it could only guess what this machine is.

    What the machine is found to be is kept, so that the next plan guesses right.

    Raises:
        OtherVersion: the request was planned by another version of Regiolect.
        BackendUnavailable: the target's backend is not installed here.
    """
    if request.key_parts["regiolect"] != own_code():
        raise OtherVersion(
            expected=f"Regiolect's code with {short(request.key_parts['regiolect'])}, by which the release was planned",
            found=f"code with {short(own_code())} on the machine that builds for {request.target.name!r}",
            remedy="install the same version of Regiolect on every worker and on the machine that starts releases",
        )
    target = request.target
    seen = TargetMachine(target=target.name, backend=target.backend, parts=machine_parts(target))
    if store.get_record(MACHINES, _machine_key(target), TargetMachine) != seen:
        store.put_record(MACHINES, _machine_key(target), seen)
    return request.built_with(seen.parts)


def _difference(name: str, before: str, now: str) -> str:
    # Digests say nothing to a person; versions and machines do.
    return name if now.startswith("sha256:") else f"{name} ({before} -> {now})"


def require_planned(request: RegionRequest, spec: ModelSpec) -> None:
    """Raises ChangedMeanwhile unless model and data are still those that the build key was made of."""
    now = {"model": spec.source_digest(), "data": spec.region_data(request.region).identity()}
    changed = [name for name, value in now.items() if request.key_parts[name] != value]
    if changed:
        raise ChangedMeanwhile(
            expected=f"model and data of region {request.region!r} as they were when the release was planned",
            found=f"another {' and another '.join(changed)}",
            remedy="run again: the new plan takes what is there now",
        )


def finished(request: RegionRequest, store: Store) -> RegionOutcome | None:
    """The outcome kept under a request's build key, if it came to a decision that stands and the store still has its
    engine. One whose calibration is older than the policy allows stands no longer."""
    outcome = store.get_record(OUTCOMES, request.build_key, RegionOutcome)
    if (
        outcome is None
        or _to_be_timed_again(outcome)
        or _outdated(request, outcome) is not None
        or outcome.build_key != request.build_key
        or outcome.failure is not None
        or outcome.engine is None
    ):
        return None
    return outcome if all(store.has(blob) for blob in blobs_of(outcome)) else None


def _to_be_timed_again(outcome: RegionOutcome) -> bool:
    # Answers are the same in every run; times are not, and a busy hour must not block a region for good.
    return outcome.gate is not None and not {"latency", "throughput", "speedup"}.isdisjoint(outcome.gate.blocked_by)


def _outdated(request: RegionRequest, outcome: RegionOutcome) -> str | None:
    """Why an outcome's calibration holds no longer."""
    oldest = request.policy.calibration.max_age_days
    if oldest is None or outcome.calibration is None:
        return None
    age = (datetime.now(UTC) - outcome.calibration.seal.made).total_seconds() / 86400
    return f"its calibration is {age:.0f} days old, the policy allows {oldest:g}" if age > oldest else None


def keep(outcome: RegionOutcome, request: RegionRequest, store: Store) -> None:
    """Keep an outcome as the latest of its region and target and, last, under its build key."""
    store.put_record(LATEST, latest_key(request), outcome)
    store.put_record(OUTCOMES, outcome.build_key, outcome)


def answer(run: str, outcome: RegionOutcome, request: RegionRequest, store: Store, *, built: bool) -> RegionAnswer:
    """Keep what a region's flow run came to and, last, tell whoever waits for that run, on whatever machine."""
    if built:
        keep(outcome, request, store)
    else:
        store.put_record(LATEST, latest_key(request), outcome)
    told = RegionAnswer(outcome=outcome, built=built)
    store.put_record(RUNS, run, told)
    return told


def answer_of(run: str, store: Store) -> RegionAnswer | None:
    """What a region's flow run told; None if it did not come that far."""
    return store.get_record(RUNS, run, RegionAnswer)


def latest_key(request: RegionRequest) -> str:
    """Key of the latest outcome of a model in a region on a target."""
    return f"{request.name}--{request.region}--{request.target.name}"
