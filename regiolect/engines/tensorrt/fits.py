"""Whether a plan runs on a machine, by what its artifact and the machine are: no library, plan or GPU is asked."""

from __future__ import annotations

from collections.abc import Mapping

from regiolect.contracts import EngineArtifact, Misfit
from regiolect.engines.tensorrt.recipe import PlainOptions, RtxOptions, dotted

_UNKNOWN = "unknown"
_FIRST_AMPERE = 8


def other_flavour(artifact: EngineArtifact, flavour: str) -> Misfit | None:
    """What speaks against a plan of the other flavour; None for one's own.

    Before there were two, `tensorrt` meant TensorRT-RTX; its plans say so in their fingerprint.
    """
    told = artifact.fingerprint.get("flavour", _UNKNOWN)
    return None if told == flavour else Misfit(what="flavour", engine=told, host=flavour, blocks=True)


def plain_misfits(artifact: EngineArtifact, host: Mapping[str, str]) -> tuple[Misfit, ...]:
    """In what a plan of plain TensorRT and a machine differ.

    Without hardware compatibility a plan runs on the model of GPU that it was built on, without version compatibility
    with the version that built it. The driver may differ; nobody measured the plan under another.

    Args:
        host: the backend's fingerprint on that machine.
    """
    options = PlainOptions.model_validate(artifact.request.target.options)
    told = artifact.fingerprint
    built_on, here = told.get("compute capability", _UNKNOWN), host.get("compute capability", _UNKNOWN)
    known = _UNKNOWN not in (built_on, here)
    same = known and built_on == here
    newer = known and min(_major(built_on), _major(here)) >= _FIRST_AMPERE
    anywhere = options.hardware_compatibility
    return _differing(
        told,
        host,
        {
            "version": not (options.version_compatible and _later(host.get("version", _UNKNOWN), told["version"])),
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

    Args:
        host: the backend's fingerprint on that machine, with `compute capability`.
    """
    request, told = artifact.request, artifact.fingerprint
    options = RtxOptions.model_validate(request.target.options)
    stated: tuple[str, ...] = options.compute_capabilities or tuple(told.get(f"gpus {request.precision}", "").split())
    listed = [dotted(name) for name in stated]
    here = host.get("compute capability", _UNKNOWN)
    found = _differing(told, host, {"version": True, "system": True, "machine": True})
    if here in listed:
        return found
    return (
        *found,
        Misfit(what="compute capability", engine=", ".join(listed) or _UNKNOWN, host=here, blocks=True),
    )


def _differing(told: Mapping[str, str], host: Mapping[str, str], blocks: Mapping[str, bool]) -> tuple[Misfit, ...]:
    """What both tell differently. What an artifact does not tell was not recorded when it was built."""
    return tuple(
        Misfit(what=name, engine=told[name], host=host.get(name, _UNKNOWN), blocks=blocking)
        for name, blocking in blocks.items()
        if name in told and told[name] != host.get(name, _UNKNOWN)
    )


def _major(capability: str) -> int:
    return int(capability.partition(".")[0])


def _later(host: str, built: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(host) >= Version(built)
    except InvalidVersion:
        return False
