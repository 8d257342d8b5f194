"""Why engines of a backend cannot run on a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from regiolect.contracts import (
    EngineArtifact,
)
from regiolect.host.cpu import UNKNOWN


@dataclass(frozen=True)
class Obstacle:
    """Why engines of a backend cannot run on a machine.

    kind: whether software is missing or a device.
    found: what is there instead.
    remedy: for software it ends by installing the backend's extra.
    """

    kind: Literal["software", "device"]
    found: str
    remedy: str


def device_for(artifact: EngineArtifact) -> str:
    """The device that an engine is for: its target, and the GPU if the engine tells which."""
    target, gpu = artifact.request.target.name, artifact.fingerprint.get("gpu", "none")
    return target if gpu in ("none", UNKNOWN) else f"{target} ({gpu})"
