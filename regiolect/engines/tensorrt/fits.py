"""Whether a plan runs on a machine, by what its artifact and the machine are: no library, plan or GPU is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from regiolect.contracts import EngineArtifact, Misfit
from regiolect.engines.base import OTHER_VERSION
from regiolect.engines.tensorrt.options import Options, PlainOptions, RtxOptions
from regiolect.engines.tensorrt.recipe import LEAN, dotted
from regiolect.host.cpu import UNKNOWN

_FIRST_AMPERE = 8
_Options = TypeVar("_Options", bound=Options)


def other_flavour(artifact: EngineArtifact, flavour: str) -> Misfit | None:
    """What speaks against a plan of the other flavour; None for one's own.

    Before there were two, `tensorrt` meant TensorRT-RTX; its plans say so in their fingerprint.
    """
    own = artifact.fingerprint.get("flavour", UNKNOWN)
    return None if own == flavour else Misfit(what="flavour", engine=own, host=flavour, blocks=True)


def plain_misfits(artifact: EngineArtifact, host: Mapping[str, str], lean: bool = False) -> tuple[Misfit, ...]:
    """In what a plan of plain TensorRT and a machine differ.

    Without hardware compatibility a plan runs on the model of GPU that it was built on, without version compatibility
    with the version that built it. The driver may differ; nobody measured the plan under another.

    Args:
        host: the backend's fingerprint on that machine.
        lean: whether the machine names a lean runtime, through which it runs compatible plans of earlier versions.
    """
    options = _options(PlainOptions, artifact)
    if isinstance(options, Misfit):
        return (options,)
    built = _told(artifact)
    built_on, here = built.get("compute capability", UNKNOWN), host.get("compute capability", UNKNOWN)
    both_known = UNKNOWN not in (built_on, here)
    same = both_known and built_on == here
    newer = both_known and min(_major(built_on), _major(here)) >= _FIRST_AMPERE
    anywhere = options.hardware_compatibility
    through = options.version_compatible and _later(host.get("version", UNKNOWN), built["version"])
    if through and not lean:
        built["version"] += f" or its lean runtime in {LEAN}"
    return _differing(
        built,
        host,
        {
            "version": not (through and lean),
            "system": True,
            "machine": True,
            "gpu": anywhere == "none",
            "compute capability": not (same or (anywhere == "ampere_plus" and newer)),
            "driver": False,
            "cuda": False,
        },
    )


def rtx_misfits(artifact: EngineArtifact, host: Mapping[str, str]) -> tuple[Misfit, ...]:
    """In what a plan of TensorRT-RTX and a machine differ: it runs on the compute capabilities that it was built for.

    Where an artifact does not tell of the host's very GPU, it was not measured on such a one.

    Args:
        host: the backend's fingerprint on that machine, with `gpu` and `compute capability`.
    """
    options = _options(RtxOptions, artifact)
    if isinstance(options, Misfit):
        return (options,)
    request, built = artifact.request, _told(artifact)
    stated: tuple[str, ...] = options.compute_capabilities or tuple(built.get(f"gpus {request.precision}", "").split())
    listed = [dotted(name) for name in stated]
    here = host.get("compute capability", UNKNOWN)
    differing = _differing(built, host, {"version": True, "system": True, "machine": True, "gpu": False})
    if here in listed:
        return differing
    return (
        *differing,
        Misfit(what="compute capability", engine=", ".join(listed) or UNKNOWN, host=here, blocks=True),
    )


def _options(kind: type[_Options], artifact: EngineArtifact) -> _Options | Misfit:
    """What the policy asked for; or what speaks against a plan that was built by options which are not known here."""
    try:
        return kind.model_validate(artifact.request.target.options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, ("options", *first["loc"])))
        options = ", ".join(sorted(kind.model_fields))
        host = f"{first['msg']} (known: {options})"
        return Misfit(what=name, engine=str(first["input"]), host=host, blocks=True, remedy=OTHER_VERSION)


def _told(artifact: EngineArtifact) -> dict[str, str]:
    return {**artifact.fingerprint, "version": artifact.backend_version}


def _differing(built: Mapping[str, str], host: Mapping[str, str], blocks: Mapping[str, bool]) -> tuple[Misfit, ...]:
    """What both tell differently. What one of them does not tell is a difference, as in `Backend.misfits`."""
    return tuple(
        Misfit(what=name, engine=theirs, host=ours, blocks=blocking)
        for name, blocking in blocks.items()
        for theirs, ours in [(built.get(name, UNKNOWN), host.get(name, UNKNOWN))]
        if theirs != ours or theirs == UNKNOWN
    )


def _major(capability: str) -> int:
    return int(capability.partition(".")[0])


def _later(host: str, built: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(host) > Version(built)
    except InvalidVersion:
        return False
