"""One engine to be had, and the build key that everything it depends on gives it.

A build key is the digest of everything that an engine depends on. It is made of inputs alone, so it is known before
anything runs: same key, nothing is rebuilt; another key, the parts that differ are named.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from regiolect.contracts import (
    Arithmetic,
    Contract,
    Digest,
    RegionId,
    RegionOutcome,
    RegisteredEngine,
    SourceFiles,
    SourceSet,
    Split,
    Target,
    TargetId,
    TargetMachine,
    place_of,
    short,
    slot_of,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ChangedMeanwhile, ForeignArithmetic, OrchestratorError, OtherVersion
from regiolect.identity.toolchain import own_code, toolchain
from regiolect.integrity import digest_of
from regiolect.model import ModelSpec
from regiolect.planning.sources import changed_sources
from regiolect.policy import RegionPolicy
from regiolect.precision import traits
from regiolect.scoped_cache import once
from regiolect.storage import Store

MACHINES = "machines"
DATA = "data"

# Joins names that never hold it.
_BETWEEN = "--"
_ANY, _UNSEEN = "any", "a machine not seen before"
# What a class of arithmetic stands for in a build key: these tell one processor of a class from another.
_OF_THE_PROCESSOR = frozenset({"cpu", "isa"})


class RegionRequest(Contract):
    """One engine to be had: a model, a region's policy and a target, under the build key they give.

    `arithmetic` is the class of the machines that it is built and judged on; None where it does not matter, and on a
    target of which no machine was seen yet.
    """

    address: str = Field(description="of the ModelSpec: package.module:NAME, or an entry point")
    name: str
    policy: RegionPolicy
    target: Target
    arithmetic: Arithmetic | None = None
    build_key: Digest
    key_parts: Mapping[str, str]
    files: Mapping[str, Mapping[str, Digest]] = Field(
        default={}, description="of each part of the key that is made of files: those files, by name"
    )
    sets: Mapping[Split, SourceSet] = Field(default={}, description="of the data, where its source tells them")
    champion: RegisteredEngine | None = Field(
        default=None, description="what the region serves as the release starts; no part of the build key"
    )

    @property
    def region(self) -> str:
        return self.policy.region

    @property
    def run_name(self) -> str:
        """As runs that work on it are named."""
        return f"{self.name}-{self.region}-{self.target.name}"

    @property
    def slot(self) -> str:
        """As `BuildRequest.slot`."""
        return slot_of(self.target.name, self.arithmetic)

    @property
    def place(self) -> str:
        """As `BuildRequest.place`."""
        return place_of(self.target.name, self.arithmetic)

    def built_with(self, parts: Mapping[str, str]) -> RegionRequest:
        """The same request under the key that it has with these parts."""
        parts = {**self.key_parts, **parts}
        return self.model_copy(update={"build_key": digest_of(parts), "key_parts": parts})


def region_parts(spec: ModelSpec, source: SourceFiles, policy: RegionPolicy) -> dict[str, SourceFiles]:
    """The parts of a build key that are made of files, which all targets of a region share.

    Args:
        source: the spec's `source()`, which all regions share.

    Raises:
        DataError, InvalidModelSpec: the region's data, or the metric that the policy names, cannot be had.
    """
    return {
        "model": source,
        DATA: spec.data_source(policy.region),
        "metric": spec.metric_source(policy.accuracy.metric),
    }


def parts_of(request: RegionRequest) -> dict[str, SourceFiles]:
    """The `region_parts` that a request was made with."""
    return {
        name: SourceFiles(digest=request.key_parts[name], files=files, sets=request.sets if name == DATA else {})
        for name, files in request.files.items()
    }


def _shared_parts(policy: RegionPolicy, shared: Mapping[str, SourceFiles]) -> dict[str, str]:
    """The parts of a build key that all targets of a region share."""
    return {**{name: part.digest for name, part in shared.items()}, "policy": policy.demands_digest()}


def target_parts(target: Target) -> dict[str, str]:
    """The part of a build key that says what a policy asks for of a target."""
    return {"target": f"{target.name}/{target.described()}"}


def has_classes(policy: RegionPolicy, target: Target) -> bool:
    """Whether a target has an engine for each class of arithmetic: precision and backend are of those that differ."""
    return traits(policy.precision).by_arithmetic and backend(target.backend).classed


def requests_for(
    address: str,
    spec: ModelSpec,
    policy: RegionPolicy,
    target: Target,
    shared: Mapping[str, SourceFiles],
    store: Store,
    *,
    on_pools: bool,
) -> tuple[RegionRequest, ...]:
    """The requests for one region's engines on one target: one, or one for each class of arithmetic.

    Args:
        address: where the spec was found; workers find it there again.
        shared: the region's `region_parts`.
        store: the region's, which knows what machines were last seen.
        on_pools: engines are built on other machines; the target's machines are taken for what they were when last
            seen. Otherwise there is this machine alone.

    Raises:
        BackendUnavailable: the engine is to be built here, and the backend's library is not installed.
        BuildFailed: the backend does not have the policy's precision.
        ForeignArithmetic: the engine is to be built here, and the policy does not take this machine's class.
        DeviceLost: the engine is to be built here, and the device does not answer.
    """
    if on_pools:
        machines = _last_seen(policy, target, store)
    else:
        parts = once(("machine", target.backend), lambda: machine_parts(target))
        machines = ((class_here(policy, target), parts),)

    def request(arithmetic: Arithmetic | None, machine: Mapping[str, str]) -> RegionRequest:
        parts = {
            **_shared_parts(policy, shared),
            **class_parts(policy, target, arithmetic),
            **target_parts(target),
            "regiolect": own_code(),
            **machine,
        }
        return RegionRequest(
            address=address,
            name=spec.name,
            policy=policy,
            target=target,
            arithmetic=arithmetic,
            build_key=digest_of(parts),
            key_parts=parts,
            files={name: part.files for name, part in shared.items()},
            sets=shared[DATA].sets,
        )

    return tuple(request(arithmetic, machine) for arithmetic, machine in machines)


def request_like(
    built: RegionOutcome, address: str, policy: RegionPolicy, target: Target, shared: Mapping[str, SourceFiles]
) -> RegionRequest:
    """The request for an engine as it was built, by the machine, the libraries and the code of that time; but for the
    model, data and policy of now. Its key is the engine's own as long as those are what they were.

    Args:
        shared: the region's `region_parts`.
    """
    parts = {**built.key_parts, **_shared_parts(policy, shared), **target_parts(target)}
    before = built.key_parts.get("policy")
    if before is not None and policy.has_digest(before):
        parts["policy"] = before
    return RegionRequest(
        address=address,
        name=built.model,
        policy=policy,
        target=target,
        arithmetic=built.arithmetic,
        build_key=digest_of(parts),
        key_parts=parts,
        files={name: part.files for name, part in shared.items()},
        sets=shared[DATA].sets,
    )


def class_parts(policy: RegionPolicy, target: Target, arithmetic: Arithmetic | None) -> dict[str, str]:
    """The parts of a build key that a class gives: it, and how the backend wants the policy's precision written there.

    Args:
        arithmetic: None where classes do not matter, or where no machine was seen yet.
    """
    unknown = _UNSEEN if has_classes(policy, target) else _ANY
    recipe = ("recipe", target.backend, policy.precision, arithmetic)
    return {
        "recipe": once(recipe, lambda: digest_of(backend(target.backend).recipe(policy.precision, arithmetic))),
        "arithmetic": unknown if arithmetic is None else arithmetic.value,
    }


def machine_parts(target: Target) -> dict[str, str]:
    """The parts of a build key that depend on where the engine is built: libraries, and the machine they run on.

    Of a processor that is its architecture; what sets apart those of one architecture is the class of arithmetic.

    Raises:
        BackendUnavailable: the backend's library is not installed here.
    """
    fingerprint = backend(target.backend).fingerprint()
    libraries = [f"{name} {value}" for name, value in sorted(fingerprint.items()) if name not in _OF_THE_PROCESSOR]
    return {"backend": ", ".join(libraries), "toolchain": toolchain()}


def class_here(policy: RegionPolicy, target: Target) -> Arithmetic | None:
    """The class in which this machine builds and judges a region's engine; None where classes do not matter.

    Raises:
        ForeignArithmetic: the policy does not take it, or the processor does not tell.
    """
    if not has_classes(policy, target):
        return None
    here, wanted = backend(target.backend).arithmetic(), target.arithmetic
    if here is None or (wanted and here not in wanted):
        raise ForeignArithmetic(
            expected=f"a machine of class {' or '.join(wanted or Arithmetic)} for {policy.precision} engines of "
            f"{target.name!r}",
            found="a processor that does not tell its class" if here is None else f"one of class {here}",
            remedy=f"release {policy.region} on a machine of such a class"
            + ("" if here is None else f", or add {here} to `arithmetic` of target {target.name} in its policy"),
        )
    return here


def _last_seen(
    policy: RegionPolicy, target: Target, store: Store
) -> tuple[tuple[Arithmetic | None, Mapping[str, str]], ...]:
    """Classes in which engines were built for the target, and what the machine was that last did."""
    if not has_classes(policy, target):
        records = [store.get_record(MACHINES, _machine_key(target, None), TargetMachine)]
    else:
        keys = once(("machines", store), lambda: frozenset(store.record_keys(MACHINES)))
        wanted = [each for each in target.arithmetic or Arithmetic if _machine_key(target, each) in keys]
        records = [store.get_record(MACHINES, _machine_key(target, each), TargetMachine) for each in wanted]
    machines = tuple((machine.arithmetic, machine.parts) for machine in records if machine is not None)
    return machines or ((None, dict.fromkeys(("backend", "toolchain"), _UNSEEN)),)


def _machine_key(target: Target, arithmetic: Arithmetic | None) -> str:
    return _BETWEEN.join((target.name, target.backend, *([] if arithmetic is None else [arithmetic.value])))


def on_this_machine(request: RegionRequest, store: Store) -> RegionRequest:
    """The request under the build key that it has here, for whoever sent it could only guess what this machine is.

    What the machine is found to be is kept, so that the next plan guesses right and knows of its class of arithmetic.

    Raises:
        OrchestratorError: the request contradicts itself: no plan made it.
        OtherVersion: the request was planned by another version of Regiolect.
        BackendUnavailable: the target's backend is not installed here.
        ForeignArithmetic: the engine is asked for in another class, or the policy does not take this machine's.
    """
    _require_as_planned(request)
    if request.key_parts["regiolect"] != own_code():
        raise OtherVersion(
            expected=f"Regiolect's code with {short(request.key_parts['regiolect'])}, by which the release was planned",
            found=f"code with {short(own_code())} on the machine that builds for {request.target.name!r}",
            remedy="install the same version of Regiolect on every worker and on the machine that starts releases",
        )
    policy, target = request.policy, request.target
    parts, here = machine_parts(target), class_here(policy, target)
    machine = TargetMachine(target=target.name, backend=target.backend, arithmetic=here, parts=parts)
    key = _machine_key(target, here)
    if store.get_record(MACHINES, key, TargetMachine) != machine:
        store.put_record(MACHINES, key, machine)
    if request.arithmetic is not None and here is not request.arithmetic:
        raise ForeignArithmetic(
            expected=f"a machine of class {request.arithmetic}, in which the engine of {target.name!r} is asked for",
            found=f"one of class {here}",
            remedy=f"start a worker on such a machine: prefect worker start --pool {target.name}; or state in the "
            f"policy of {policy.region} the classes that {target.name} takes, e.g. arithmetic: [{here}]",
        )
    of_this_class = request.model_copy(update={"arithmetic": here})
    return of_this_class.built_with({**parts, **class_parts(policy, target, here)})


def _require_as_planned(request: RegionRequest) -> None:
    """Raises OrchestratorError unless the build key is that of the policy and target that stand beside it: whoever may
    start runs could send another policy, and what a lax one lets pass is not to be kept under a strict one's key.
    """
    policy, target, parts = request.policy, request.target, request.key_parts
    own = {"policy": policy.demands_digest(), **target_parts(target)}
    wrong = [name for name, value in own.items() if parts.get(name) != value]
    wrong += ["target"] * (target not in policy.targets) + ["build key"] * (request.build_key != digest_of(parts))
    if wrong:
        raise OrchestratorError(
            expected=f"a request for {policy.region} on {target.name} as a plan makes it, of its own policy and target",
            found=f"another {' and another '.join(dict.fromkeys(wrong))}",
            remedy=f"let a release make it: regiolect run {request.address} --regions {policy.region}",
        )


def require_planned(request: RegionRequest, spec: ModelSpec) -> None:
    """Raises ChangedMeanwhile unless model, data and metric are still those that the build key was made of: what is
    judged here by an older metric would be kept under the key of the new one.

    Raises:
        DataError, InvalidModelSpec: as `region_parts`.
    """
    then, now = parts_of(request), region_parts(spec, spec.source(), request.policy)
    changed = [name for name, part in now.items() if request.key_parts[name] != part.digest]
    if changed:
        files = ", ".join(piece for name in changed for piece in changed_sources(then.get(name), now[name]))
        raise ChangedMeanwhile(
            expected=f"model, data and metric of region {request.region!r} as they were when the release was planned",
            found=f"another {' and another '.join(changed)}{f' ({files})' if files else ''}",
            remedy="run again: the new plan takes what is there now; where engines are built on other machines, bring "
            "their code to the same version first",
        )


def engine_key(model: str, region: str, slot: str) -> str:
    """Key of what is kept of a model in a region for a slot, whatever its build key."""
    return _BETWEEN.join((model, region, slot))


def engine_of_key(key: str) -> tuple[str, RegionId, TargetId, Arithmetic | None] | None:
    """Model, region, target and class of such a key; None if it is not one."""
    model, *rest = key.split(_BETWEEN)
    if len(rest) == 2:
        return model, rest[0], rest[1], None
    if len(rest) == 3 and rest[2] in set(Arithmetic):
        return model, rest[0], rest[1], Arithmetic(rest[2])
    return None
