"""What tuning on a target measured, and what came of it: the operating points of an engine on one device."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from regiolect.contracts.base import Blob, Contract, Digest, RegionId
from regiolect.contracts.engine import Configuration, Performance, Target


def _none(value: object) -> bool:
    return value is None


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
    chosen: the point that answers what was tuned for, and the one that the engine is timed with for the gate; None: as
        the backend comes, because nothing was faster by more than the noise. For latency it is at the profile's optimal
        batch, where it need not be one of `points`.
    """

    format: Literal[1] = 1
    build_key: Digest
    device: Mapping[str, str] = Field(description="the device, as the engine's backend tells it")
    default: OperatingPoint = Field(description="as the backend comes, at the profile's optimal batch, in the same run")
    points: Annotated[tuple[OperatingPoint, ...], Field(min_length=1)]
    chosen: OperatingPoint | None = Field(default=None, exclude_if=_none)
    noise: NonNegativeFloat = Field(description="share by which the default differed from itself in that run")
    journal: Blob = Field(description="every measurement, as a TuningJournal")

    @property
    def point(self) -> OperatingPoint:
        """How the engine is run for what it was tuned for."""
        return self.chosen or self.default


class TuningCandidate(Contract):
    """A configuration at a batch size.

    control: the default once more, loaded a second time; how much it differs from the default is the run's noise.
    """

    configuration: Configuration
    batch: PositiveInt
    at_once: PositiveInt
    control: bool = Field(default=False, exclude_if=operator.not_)


class DroppedCandidate(Contract):
    """What was not measured, or no further, and why. Without a batch it is the configuration as a whole.

    minutes: the time that was too short for it; it is tried by whoever allows more.
    """

    configuration: Configuration
    batch: PositiveInt | None
    reason: str
    minutes: PositiveFloat | None = Field(default=None, exclude_if=_none)


class TuningSlice(Contract):
    """Rounds of one candidate, measured in a row, in milliseconds."""

    candidate: NonNegativeInt = Field(description="its place among the journal's candidates")
    rounds_ms: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class TuningJournal(Contract):
    """Every measurement of a tuning, in the order in which it was taken; what came of it can be worked out from it.

    A pass measures every candidate that may still be chosen, the default and its control always among them.

    at_default_batch: what is chosen is at the default's batch, as it always is for latency.
    """

    format: Literal[1] = 1
    note: str = Field(default="", exclude_if=operator.not_, description="what every reader must know")
    model: str
    region: RegionId
    target: Target
    build_key: Digest
    engine: Digest = Field(description="of the build key and of the engine's files")
    device: Mapping[str, str] = Field(description="the device, as the engine's backend tells it")
    regiolect: Digest = Field(description="of the code that measured")
    tuned_for: Performance
    at_default_batch: bool = Field(default=False, exclude_if=operator.not_)
    default_batch: PositiveInt = Field(description="the profile's optimal batch")
    started: AwareDatetime
    seconds: NonNegativeFloat = Field(default=0.0, description="time that measuring took so far")
    candidates: Annotated[tuple[TuningCandidate, ...], Field(min_length=2)]
    dropped: tuple[DroppedCandidate, ...] = ()
    passes: tuple[tuple[TuningSlice, ...], ...] = ()

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if not (self._is_default(0, control=False) and self._is_default(1, control=True)):
            raise ValueError("the first candidate must be the default at the default batch, the second its control")
        for number, taken in enumerate(self.passes):
            measured = [piece.candidate for piece in taken]
            if len(set(measured)) != len(measured) or not {0, 1} <= set(measured):
                raise ValueError(f"pass {number} does not measure default, control and others once each")
            if max(measured) >= len(self.candidates):
                raise ValueError(f"pass {number} measures a candidate that is not listed")
        return self

    def _is_default(self, place: int, *, control: bool) -> bool:
        candidate = self.candidates[place]
        return not candidate.configuration and candidate.batch == self.default_batch and candidate.control is control
