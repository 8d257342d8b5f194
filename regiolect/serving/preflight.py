"""Which engines run on a host, found out before anything of them is read.

What is compared are facts: the fingerprint that an engine's manifest tells, with what the host is. No vendor's library
is imported for that. An engine *fits* a host that is like the one on which it was measured; where host and fingerprint
differ in nothing that binds it runs as well, but nobody measured it on such a host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from regiolect import __version__
from regiolect.contracts import (
    Arithmetic,
    Contract,
    EngineArtifact,
    Misfit,
    Precision,
    RegionId,
    TargetId,
    place_of,
    slot_of,
)
from regiolect.engines import catalog
from regiolect.engines.arithmetic import ARITHMETIC
from regiolect.engines.base import OTHER_VERSION
from regiolect.engines.obstacle import device_for
from regiolect.errors import DeviceLost, EngineError, ForeignRegion, NotRunnableHere, RegiolectError, UnknownBackend

REGION_SETTING = "REGIOLECT_REGION"
Misfits = Callable[[EngineArtifact], Sequence[Misfit]]
"""In what an engine and a host differ, as `Backend.misfits`."""

_LOST = "lost device"


class Fit(StrEnum):
    """How an engine and a host go together."""

    FITS = "fits"
    UNMEASURED = "fits, but was not measured on such a host"
    NONE = "does not fit"


class EngineFit(Contract):
    """One engine and a host.

    misfits: in what they differ.
    remedy: what to do about that; empty where there is nothing.
    instead: another engine of the bundle that runs on the host, where this one does not.
    """

    target: TargetId
    arithmetic: Arithmetic | None = None
    backend: str
    precision: Precision
    fit: Fit
    misfits: tuple[Misfit, ...]
    remedy: str
    instead: str | None = None

    @property
    def slot(self) -> str:
        """As `BuildRequest.slot`."""
        return slot_of(self.target, self.arithmetic)

    @property
    def place(self) -> str:
        """As `BuildRequest.place`."""
        return place_of(self.target, self.arithmetic)

    def differences(self) -> str:
        """Both sides of each misfit; of an engine that does not run, of those that keep it from running."""
        stopped = self.fit is Fit.NONE
        return "; ".join(_said(misfit) for misfit in self.misfits if misfit.blocks or not stopped)

    def summary(self) -> str:
        """For people, with the remedy."""
        if self.fit is Fit.FITS:
            return "fits here"
        if self.fit is Fit.NONE:
            other = f"the engine for {self.instead} runs here" if self.instead is not None else ""
            return f"does not run here: {self.differences()}; {'; or '.join(filter(None, (other, self.remedy)))}"
        return f"runs here, measured on another host: {self.differences()}; {self.remedy}"

    def warning(self, name: str) -> str:
        """What whoever loads an engine should know that nobody measured on such a host."""
        return (
            f"the engine of {name} for {self.place} was measured and approved on another host than this one: "
            f"{self.differences()}"
        )


class Preflight(Contract):
    """Every engine of a bundle and a host, in the bundle's order of preference."""

    engines: tuple[EngineFit, ...]

    def to_try(self) -> tuple[EngineFit, ...]:
        """What runs on the host: first what was measured on one like it, then what was on one of its arithmetic class,
        or belongs to none; last what stands in for an engine of another class. Each in the bundle's order."""
        running = [each for each in self.engines if each.fit is not Fit.NONE]
        return tuple(sorted(running, key=_distance))


def misfits_here(artifact: EngineArtifact) -> Sequence[Misfit]:
    """In what an engine and this machine differ.

    Raises:
        UnknownBackend: this version of Regiolect does not know its backend.
        DeviceLost: the machine's device does not answer.
    """
    return catalog.backend(artifact.request.target.backend).misfits(artifact)


def preflight(engines: Sequence[EngineArtifact], misfits: Misfits = misfits_here) -> Preflight:
    """Compare engines, in order of preference, with a host.

    Args:
        engines: what a manifest tells of them; none of their files is read.
        misfits: what is known of the host.
    """
    report = Preflight(engines=tuple(_fit_of(artifact, misfits) for artifact in engines))
    first = next(iter(report.to_try()), None)
    if first is None:
        return report
    return Preflight(engines=tuple(_beside(each, first) if each.fit is Fit.NONE else each for each in report.engines))


def not_runnable(name: str, report: Preflight, failed: Mapping[str, EngineError]) -> NotRunnableHere:
    """The error of a bundle of which nothing runs on this machine.

    Args:
        failed: what loading said of engines that fit, by slot.
    """
    obstacles, remedies = [], []
    for each in report.engines:
        error = failed.get(each.slot)
        obstacles.append(f"{each.place}: {each.differences()}" if error is None else _loading(each.place, error))
        remedy = each.remedy if error is None else error.remedy
        # Nothing is to be done about an engine for another class beside the one for this class.
        remedies += [f"{each.place}: {remedy}"] if remedy else []
    return NotRunnableHere(
        expected=f"an engine of {name} that runs on this machine",
        found="; ".join(obstacles),
        remedy=f"one of these: {'; '.join(remedies)}",
    )


def passed_over(name: str, report: Preflight, failed: Mapping[str, EngineError], loaded: EngineFit) -> str | None:
    """What whoever gets another engine than the one meant for this machine should know; None if there is nothing.

    That is: engines that fit and did not load, and those before the loaded one whose device does not answer. An engine
    for another machine, or whose library is not installed, is none that was lost.

    Args:
        name: the bundle's.
        failed: what loading said of engines that fit, by slot.
        loaded: the engine that is served instead.
    """
    slots = [each.slot for each in report.engines]
    lost = []
    for number, each in enumerate(report.engines):
        error = failed.get(each.slot)
        if error is not None:
            lost.append(f"{_loading(each.place, error)}; {error.remedy}")
        elif number < slots.index(loaded.slot) and any(misfit.what == _LOST for misfit in each.misfits):
            lost.append(f"{each.place}: {each.differences()}; {each.remedy}")
    return f"{name} runs on its engine for {loaded.place} in place of another: {'. '.join(lost)}" if lost else None


def region_here() -> str | None:
    """The region that this machine is said to be in; None: nobody said."""
    return os.environ.get(REGION_SETTING) or None


def require_region(model: str, region: RegionId, here: str | None) -> None:
    """Raises ForeignRegion unless an engine's region is that of the host, or nobody said where the host is.

    Args:
        model: the engine's.
        region: the engine's.
        here: the host's.
    """
    if here is not None and region != here:
        raise ForeignRegion(
            expected=f"an engine of region {here!r}, in which this host is ({REGION_SETTING})",
            found=f"one of {model} for region {region!r}; nothing of it was loaded",
            remedy=f"load models:/{model}-{here}@champion; or set {REGION_SETTING}={region} if this host is there",
        )


def _fit_of(artifact: EngineArtifact, misfits: Misfits) -> EngineFit:
    request = artifact.request
    try:
        differing = tuple(misfits(artifact))
    except (RegiolectError, ValueError, LookupError) as error:
        differing = (_failed_comparison(artifact, error),)
    return EngineFit(
        target=request.target.name,
        arithmetic=request.arithmetic,
        backend=request.target.backend,
        precision=request.precision,
        fit=_fit(differing),
        misfits=differing,
        remedy=_remedy(artifact, differing),
    )


def _failed_comparison(artifact: EngineArtifact, error: RegiolectError | ValueError | LookupError) -> Misfit:
    """That one engine cannot be compared keeps it from running; the bundle's others are judged all the same."""
    target = artifact.request.target
    if isinstance(error, UnknownBackend):
        backends = f"Regiolect {__version__} knows {', '.join(catalog.names())}"
        remedy = f"{OTHER_VERSION}, or the distribution that brings the backend {target.backend}"
        return Misfit(what="backend", engine=target.backend, host=backends, blocks=True, remedy=remedy)
    if isinstance(error, DeviceLost):
        return Misfit(what=_LOST, engine=device_for(artifact), host=error.found, blocks=True, remedy=error.remedy)
    if isinstance(error, RegiolectError):
        return Misfit(what="comparison", engine=error.expected, host=error.found, blocks=True, remedy=error.remedy)
    readable, fault = f"a fingerprint that Regiolect {__version__} reads", f"{type(error).__name__}: {error}"
    return Misfit(what="comparison", engine=readable, host=fault, blocks=True, remedy=OTHER_VERSION)


def _fit(misfits: Sequence[Misfit]) -> Fit:
    if any(misfit.blocks for misfit in misfits):
        return Fit.NONE
    return Fit.UNMEASURED if misfits else Fit.FITS


def _beside(engine: EngineFit, runs: EngineFit) -> EngineFit:
    """An engine that does not run on a host, beside the one that does. Nothing is to be done about an engine for
    another class of arithmetic where its target has one for the host's."""
    blocking = {misfit.what for misfit in engine.misfits if misfit.blocks}
    served = blocking == {ARITHMETIC} and engine.target == runs.target and _distance(runs) < 2
    return engine.model_copy(update={"instead": runs.place, **({"remedy": ""} if served else {})})


def _distance(fit: EngineFit) -> int:
    """How far an engine that runs on a host is from what was judged there."""
    if fit.fit is Fit.FITS:
        return 0
    return 2 if any(misfit.what == ARITHMETIC for misfit in fit.misfits) else 1


def _remedy(artifact: EngineArtifact, misfits: Sequence[Misfit]) -> str:
    if not misfits:
        return ""
    blocking = {misfit.what: misfit.remedy for misfit in misfits if misfit.blocks}
    target, region = artifact.request.target, artifact.request.region
    stated = [remedy for what, remedy in blocking.items() if what != "version"]
    if stated and all(stated):
        return "; ".join(stated)
    if blocking.keys() == {"version"}:
        backend = catalog.backend(target.backend)
        return f"{backend.installation()} {backend.carrier()}=={artifact.backend_version}"
    if "device" in blocking:
        return (
            f"load it on a machine of target {target.name}, or name a target for machines like this one in the policy "
            f"of {region} and release again"
        )
    does = "build" if blocking else "measure"
    return (
        f"pool {target.name} would {does} it: prefect worker start --pool {target.name} on a machine like this one, "
        f"then regiolect run MODEL --regions {region} --targets {target.name}"
    )


def _said(misfit: Misfit) -> str:
    if misfit.what in ("library", "comparison"):
        return f"{misfit.engine} needed, {misfit.host}"
    if misfit.what in ("device", _LOST):
        return f"a device of {misfit.engine} needed, {misfit.host}"
    if misfit.what == "backend":
        return f"backend {misfit.engine} needed, {misfit.host}"
    return f"{misfit.what} {misfit.engine} {'needed' if misfit.blocks else 'there'}, {misfit.host} here"


def _loading(place: str, error: EngineError) -> str:
    return f"{place}: fits, but did not load: expected {error.expected}, found {error.found}"
