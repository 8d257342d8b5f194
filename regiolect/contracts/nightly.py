"""What a night's run did over all models."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, NonNegativeFloat, NonNegativeInt

from regiolect.contracts.base import Contract, RegionId
from regiolect.contracts.release import Failure, ReleaseResult


class Trouble(Contract):
    """Something that could not even be released: a model, one of its regions (None: the model as a whole), or a server
    that the night depends on."""

    model: str
    region: RegionId | None
    failure: Failure


class NightlyResult(Contract):
    """What a nightly did: what was left alone, what was released, and what stood in the way."""

    format: Literal[1] = 1
    started: AwareDatetime
    seconds: NonNegativeFloat
    models: NonNegativeInt
    engines: NonNegativeInt
    unchanged: NonNegativeInt
    dry_run: bool
    waiting: tuple[str, ...] = ()
    releases: tuple[ReleaseResult, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    report: str | None = None
