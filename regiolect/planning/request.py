"""One engine to be had, and the build key that everything it depends on gives it.

A build key is the digest of everything that an engine depends on. It is made of inputs alone, so it is known before
anything runs: same key, nothing is rebuilt; another key, the parts that differ are named.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from regiolect.contracts import (
    Contract,
    Digest,
    RegionId,
    RegisteredEngine,
    SourceFiles,
    Target,
    TargetId,
    TargetMachine,
    short,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ChangedMeanwhile, OtherVersion
from regiolect.integrity import digest_of, own_code, toolchain
from regiolect.model import ModelSpec
from regiolect.once import once
from regiolect.policy import RegionPolicy
from regiolect.storage import Store

MACHINES = "machines"

# Joins names that never hold it.
_BETWEEN = "--"


class RegionRequest(Contract):
    """One engine to be had: a model, a region's policy and a target, under the build key they give."""

    model: str = Field(description="address of the ModelSpec: package.module:NAME, or an entry point")
    name: str
    policy: RegionPolicy
    target: Target
    build_key: Digest
    key_parts: Mapping[str, str]
    files: Mapping[str, Mapping[str, Digest]] = Field(
        default={}, description="of each part of the key that is made of files: those files, by name"
    )
    champion: RegisteredEngine | None = Field(
        default=None, description="what the region serves as the release starts; no part of the build key"
    )

    @property
    def region(self) -> str:
        return self.policy.region

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
        "data": spec.data_source(policy.region),
        "metric": spec.metric_source(policy.accuracy.metric),
    }


def request_for(
    address: str,
    spec: ModelSpec,
    policy: RegionPolicy,
    target: Target,
    shared: Mapping[str, SourceFiles],
    store: Store,
    *,
    on_pools: bool,
) -> RegionRequest:
    """The request for one region's engine on one target.

    Args:
        address: where the spec was found; workers find it there again.
        shared: the region's `region_parts`.
        store: the region's, which knows what machines were last seen.
        on_pools: engines are built on other machines; the target is taken for what it was when last seen.

    Raises:
        BackendUnavailable: the engine is to be built here, and the backend's library is not installed.
        DeviceLost: the engine is to be built here, and the device does not answer.
    """
    recipe, machine = ("recipe", target.backend, policy.precision), ("machine", target.backend)
    parts = {
        **{name: part.digest for name, part in shared.items()},
        "policy": policy.digest(),
        "recipe": once(recipe, lambda: digest_of(backend(target.backend).recipe_here(policy.precision))),
        "target": f"{target.name}/{target.described()}",
        "regiolect": own_code(),
        **(_last_seen(target, store) if on_pools else once(machine, lambda: machine_parts(target))),
    }
    return RegionRequest(
        model=address,
        name=spec.name,
        policy=policy,
        target=target,
        build_key=digest_of(parts),
        key_parts=parts,
        files={name: part.files for name, part in shared.items()},
    )


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
    return f"{target.name}{_BETWEEN}{target.backend}"


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


def require_planned(request: RegionRequest, spec: ModelSpec) -> None:
    """Raises ChangedMeanwhile unless model and data are still those that the build key was made of."""
    now = {"model": spec.source(), "data": spec.data_source(request.region)}
    changed = [name for name, part in now.items() if request.key_parts[name] != part.digest]
    if changed:
        files = ", ".join(file for name in changed for file in changed_files(request.files.get(name), now[name].files))
        raise ChangedMeanwhile(
            expected=f"model and data of region {request.region!r} as they were when the release was planned",
            found=f"another {' and another '.join(changed)}{f' ({files})' if files else ''}",
            remedy="run again: the new plan takes what is there now",
        )


def changed_files(before: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """Names of the files whose content differs, in order, those that are new or gone by such words; none if it is not
    known what there was before."""
    if before is None:
        return []
    return [
        name if name in before and name in now else f"{name} {'is new' if name in now else 'is gone'}"
        for name in sorted({**before, **now})
        if before.get(name) != now.get(name)
    ]


def engine_key(model: str, region: str, target: str) -> str:
    """Key of what is kept of a model in a region on a target, whatever its build key."""
    return _BETWEEN.join((model, region, target))


def engine_of_key(key: str) -> tuple[str, RegionId, TargetId] | None:
    """Model, region and target of such a key; None if it is not one."""
    parts = key.split(_BETWEEN)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
