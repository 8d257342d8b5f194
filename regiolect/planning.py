"""What a release would do, and why: build keys, and the comparison with what was built before.

A build key is the digest of everything that an engine depends on. It is made of inputs alone, so it is known before
anything runs: same key, nothing is rebuilt; another key, the parts that differ are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from regiolect.contracts import (
    Contract,
    Digest,
    Failure,
    Precision,
    RegionId,
    RegionOutcome,
    Target,
    TargetId,
    failure_of,
    short,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ChangedMeanwhile, RegiolectError, UnknownRegion
from regiolect.integrity import digest_of, own_code, toolchain
from regiolect.model import ModelSpec
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.storage import Store, blobs_of

OUTCOMES = "outcomes"
LATEST = "latest"


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


class PlannedEngine(Contract):
    """What the plan says of one region on one target; of the region as a whole where its policy or data is unusable."""

    region: RegionId
    title: str
    target: TargetId | None
    precision: Precision | None
    action: Literal["build", "reuse", "refuse"]
    reason: str
    request: RegionRequest | None = None
    failure: Failure | None = None


class Plan(Contract):
    """Every engine that a release is asked for."""

    model: str
    name: str
    note: str = ""
    engines: tuple[PlannedEngine, ...]

    def requests(self, action: Literal["build", "reuse"] | None = None) -> tuple[RegionRequest, ...]:
        """The requests, of one kind or all, in the plan's order."""
        return tuple(engine.request for engine in self.engines if engine.request and action in (None, engine.action))

    def summary(self) -> str:
        """The plan in a line."""
        counts = Counter(engine.action for engine in self.engines)
        return f"{self.name}: {counts['build']} to build, {counts['reuse']} unchanged, {counts['refuse']} refused"


def plan_release(
    address: str,
    spec: ModelSpec,
    policies: PolicyBook,
    store: Store,
    regions: Sequence[str] | None = None,
    force: bool = False,
) -> Plan:
    """Compare what is asked for with what the store holds. Reads files' digests, runs nothing.

    A region whose policy or data is unusable is planned as refused, so that it does not stop the others.

    Args:
        address: where the spec was found; workers find it there again.
        regions: default: every region that has both a policy and data of the model's.
        force: plan everything as a build.

    Raises:
        UnknownRegion: a named region has no policy or no data.
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
    source = spec.source_digest()
    engines: list[PlannedEngine] = []
    for region in named:
        try:
            engines.extend(_plan_region(address, spec, source, policies.load(region), store, force))
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
    return Plan(model=address, name=spec.name, note=spec.note, engines=tuple(engines))


def _plan_region(
    address: str, spec: ModelSpec, source: str, policy: RegionPolicy, store: Store, force: bool
) -> Iterator[PlannedEngine]:
    data = spec.region_data(policy.region).identity()
    for target in policy.targets:
        chosen = backend(target.backend)
        parts = {
            "model": source,
            "data": data,
            "metric": spec.metric_digest(policy.accuracy.metric),
            "policy": policy.digest(),
            "backend": ", ".join(f"{name} {value}" for name, value in sorted(chosen.fingerprint().items())),
            "recipe": digest_of(chosen.recipe(policy.precision)),
            "target": f"{target.name}/{target.backend}",
            "toolchain": toolchain(),
            "regiolect": own_code(),
        }
        request = RegionRequest(
            model=address, name=spec.name, policy=policy, target=target, build_key=digest_of(parts), key_parts=parts
        )
        action, reason = _decide(request, store, force)
        yield PlannedEngine(
            region=policy.region,
            title=policy.title,
            target=target.name,
            precision=policy.precision,
            action=action,
            reason=reason,
            request=request,
        )


def _decide(request: RegionRequest, store: Store, force: bool) -> tuple[Literal["build", "reuse"], str]:
    if force:
        return "build", "asked for with --force"
    if finished(request.build_key, store) is not None:
        return "reuse", f"unchanged since build {short(request.build_key)}"
    latest = store.get_record(LATEST, latest_key(request), RegionOutcome)
    if latest is None:
        return "build", "never built"
    if _to_be_timed_again(latest):
        return "build", "blocked by latency in the last run: times are measured again"
    if latest.failure is not None:
        return "build", f"the last run ended in {latest.failure.kind}"
    changed = [
        _difference(name, latest.key_parts.get(name, "absent"), value)
        for name, value in request.key_parts.items()
        if latest.key_parts.get(name) != value
    ]
    return "build", f"changed: {', '.join(changed)}" if changed else "its files are no longer in the store"


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


def finished(build_key: str, store: Store) -> RegionOutcome | None:
    """The outcome kept under a build key, if it came to a decision that stands and the store still has its engine."""
    outcome = store.get_record(OUTCOMES, build_key, RegionOutcome)
    if (
        outcome is None
        or _to_be_timed_again(outcome)
        or outcome.build_key != build_key
        or outcome.failure is not None
        or outcome.engine is None
    ):
        return None
    return outcome if all(store.has(blob) for blob in blobs_of(outcome)) else None


def _to_be_timed_again(outcome: RegionOutcome) -> bool:
    # Answers are the same in every run; times are not, and a busy hour must not block a region for good.
    return outcome.gate is not None and "latency" in outcome.gate.blocked_by


def keep(outcome: RegionOutcome, request: RegionRequest, store: Store) -> None:
    """Keep an outcome as the latest of its region and target and, last, under its build key."""
    store.put_record(LATEST, latest_key(request), outcome)
    store.put_record(OUTCOMES, request.build_key, outcome)


def latest_key(request: RegionRequest) -> str:
    """Key of the latest outcome of a model in a region on a target."""
    return f"{request.name}--{request.region}--{request.target.name}"
