"""What tuning on a target found: the operating points of an engine on one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from regiolect.contracts.base import Blob, Contract, Digest
from regiolect.contracts.engine import Configuration


class OperatingPoint(Contract):
    """One way to run an engine on one device, and what that gives. Times are of a round: `at_once` batches together."""

    batch: PositiveInt = Field(description="samples in a batch")
    configuration: Configuration = Field(description="settings of the loaded engine; empty: as the backend comes")
    at_once: PositiveInt = Field(description="batches computed side by side")
    p50_ms: PositiveFloat
    p99_ms: PositiveFloat
    throughput: PositiveFloat = Field(description="samples per second, from the median round")


class TunedEngine(Contract):
    """The operating points of an engine on the device that it was tuned on.

    points: from the fastest single answer to the highest throughput; each is slower than the one before and gives more.
    """

    format: Literal[1] = 1
    build_key: Digest
    device: Mapping[str, str] = Field(description="fingerprint of the device, as the engine's backend sees it")
    default: OperatingPoint = Field(description="as the backend comes, at the profile's optimal batch, in the same run")
    points: Annotated[tuple[OperatingPoint, ...], Field(min_length=1)]
    noise: NonNegativeFloat = Field(description="share by which the default differed from itself in that run")
    journal: Blob = Field(description="every measurement, as a TuningJournal")
