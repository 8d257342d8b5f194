"""What a region allows, promises and requires: the fields of a policy file, and what may not contradict what."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from regiolect.contracts import (
    DEFAULT_METHOD,
    BatchProfile,
    CalibrationMethod,
    Contract,
    DimensionProfile,
    Execution,
    GraphChoice,
    LossUnit,
    Performance,
    Precision,
    RegionId,
    Split,
    Target,
    TensorSpec,
)
from regiolect.errors import MissingProfile
from regiolect.integrity import canonical_json, digest_bytes, digest_of
from regiolect.precision import coarser_than, traits, wider_or_equal, width

# Up to a century and a year: clocks cannot be set for what is much longer.
_Days = Annotated[float, Field(gt=0, le=36_525)]
_Minutes = Annotated[float, Field(gt=0, le=525_600)]

NO_TIME_ZONE_DATA = "no_time_zone_data"
"""Type of the error of a time zone that may be right, on a host that knows none."""


# Words for people; where the policy comes from; when engines are made; how long an answer is waited for. That a person
# is asked at all is demanded.
_NOT_DEMANDED: Mapping[str, Literal[True] | set[str]] = {
    "title": True,
    "reason": True,
    "extends": True,
    "nightly": True,
    "approval": {"wait_minutes"},
}


def is_demanded(key: str) -> bool:
    """Whether a field, by its full key, is a part of what a policy demands."""
    head, _, rest = key.partition(".")
    left_out = _NOT_DEMANDED.get(head, set())
    return left_out is not True and rest not in left_out


def _unstated(value: object) -> bool:
    """Rules that a policy does not state are left out of what is kept of it, so that its digest is what it was."""
    return value is None


class SliceRules(Contract):
    """Parts of the gate set on which an engine may lose no more either, each for itself and at the full confidence.

    All of them must pass, so no correction for their number is needed.
    """

    by: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="what samples are told apart by: attributes that they carry, or `label`, their class"
    )
    limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="largest loss allowed on a slice, in accuracy.unit; by default accuracy.limit"
    )
    least_samples: PositiveInt = Field(default=1, description="a slice of fewer samples holds the engine back")
    expected: Mapping[str, tuple[str, ...]] = Field(
        default={}, description="values that must be there, e.g. device: [phone, scanner]; others are gated as well"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.by)) != len(self.by) or not all(map(str.strip, self.by)):
            raise ValueError(f"`by` needs names, each once, found {list(self.by)}")
        for column, values in self.expected.items():
            if column not in self.by:
                near = difflib.get_close_matches(column, self.by, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"`expected` names {column!r}, which `by` does not{hint}")
            if not values or not all(values):
                raise ValueError(f"`expected` needs values of {column!r}, found {list(values)}")
        return self


class AccuracyLimit(Contract):
    """How much accuracy an engine may lose against the FP32 reference, and how sure the gate must be."""

    metric: str = Field(description="a metric of the model's, by name, e.g. accuracy")
    limit: Annotated[float, Field(ge=0, allow_inf_nan=False, description="largest loss allowed, in `unit`")]
    unit: LossUnit = LossUnit.ABSOLUTE_POINTS
    confidence: Annotated[float, Field(ge=0.8, lt=1.0, description="one-sided confidence of the bound")] = 0.95
    least: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = Field(
        default=None,
        exclude_if=_unstated,
        description="lowest score of the engine itself, as the metric counts, from 0 to 1: 0.9 is 90 % right; its "
        "lower bound must reach it; by default none",
    )
    regression: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        exclude_if=_unstated,
        description="largest loss against the engine that is served now, in `unit`; by default `limit`",
    )
    slices: SliceRules | None = Field(
        default=None, exclude_if=_unstated, description="parts of the gate set that must each be within a limit too"
    )

    @property
    def regression_limit(self) -> float:
        """Largest loss against what is served now, in `unit`."""
        return self.limit if self.regression is None else self.regression


class LatencyLimit(Contract):
    """Latency at the profile's optimal batch, on the target; upper confidence bounds must be within the limits."""

    p99_ms: PositiveFloat
    p50_ms: PositiveFloat | None = Field(default=None, exclude_if=_unstated, description="of the median")


class SpeedLimit(Contract):
    """How fast an engine must be on the target, by the lower confidence bounds of medians over interleaved rounds.

    Rounds are of the profile's optimal batch: one where the latency is limited or tuned for, several at once where the
    throughput is.
    """

    least_throughput: PositiveFloat | None = Field(default=None, description="samples per second")
    least_speedup: PositiveFloat | None = Field(
        default=None, description="times as fast as FP32 through the same backend"
    )

    @model_validator(mode="after")
    def _states_something(self) -> Self:
        if self.least_throughput is None and self.least_speedup is None:
            raise ValueError("state least_throughput, least_speedup or both")
        return self


class CalibrationRules(Contract):
    """How INT8 thresholds are chosen, and how long they hold."""

    method: CalibrationMethod = DEFAULT_METHOD
    max_age_days: _Days | None = Field(
        default=None, description="a calibration older than this is made anew; None: it holds as long as its data"
    )


class RepairRules(Contract):
    """What may be tried when an engine of the stated precision loses too much, or is no faster than a wider one.

    Everything is decided on the selection set, and never becomes coarser than the policy's precision.
    """

    steps: PositiveInt = Field(default=10, description="graphs built and scored at most, the first one included")
    fallback: tuple[Precision, ...] | None = Field(
        default=None,
        description="wider precisions that may be shipped instead, narrowest first; none: the stated one or nothing; "
        "by default every wider one that is not in `forbidden`",
    )
    minutes: _Minutes | None = Field(
        default=None,
        exclude_if=_unstated,
        description="after so long no further graph of the stated precision is tried, waiting for the machine "
        "included; by default no limit",
    )
    least_speedup: PositiveFloat = Field(
        default=1.05, description="an INT8 engine must be so many times faster than one of the next wider precision"
    )


class SampleMinimum(Contract):
    """Fewest samples per set; with fewer the region stops."""

    calibration: PositiveInt = 256
    selection: PositiveInt = 500
    gate: PositiveInt = 2000

    def by_split(self) -> dict[Split, int]:
        return {split: getattr(self, split.value) for split in Split}


class NightlyRules(Contract):
    """When the region is released by itself. How the pipeline is run, not what an engine is: outside the digest."""

    cron: str = Field(default="0 2 * * *", description="five fields of cron, in `timezone`")
    # The longest name has 32 characters; zoneinfo goes through the end of the stack for one of a thousand folders.
    timezone: str = Field(
        default="UTC", max_length=64, description="a name of the IANA time zone database, e.g. Asia/Tokyo"
    )
    deadline_minutes: _Minutes = Field(default=240, description="a build that takes longer is cancelled and refused")

    @field_validator("cron")
    @classmethod
    def _reads(cls, cron: str) -> str:
        try:
            CronSim(cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"no cron expression: {error}") from error
        return cron

    @field_validator("timezone")
    @classmethod
    def _exists(cls, timezone: str) -> str:
        # The default, which no host needs data for.
        if timezone == "UTC":
            return timezone
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            if not available_timezones():
                raise PydanticCustomError(NO_TIME_ZONE_DATA, "this host has no time zone data to look it up") from error
            near = difflib.get_close_matches(timezone, available_timezones(), n=1)
            raise ValueError("no time zone" + (f" (did you mean {near[0]!r}?)" if near else "")) from error
        return timezone


class TuningRules(Contract):
    """Each new engine is tuned on its target before it is timed and judged."""

    minutes: _Minutes = Field(description="how long measuring may take, within the build's deadline")


class ApprovalRules(Contract):
    """A person must agree, with the gate's figures in front of them, before an engine is served."""

    wait_minutes: _Minutes = Field(default=60, description="no answer in that time means refused")


class RegionPolicy(Contract):
    """One region's policy, resolved: nothing is inherited any more."""

    format: Literal[1] = Field(default=1, description="version of this file format")
    region: RegionId
    title: str = Field(description="the region's name for people")
    reason: Annotated[str, Field(min_length=20, description="why the policy is as it is, for a compliance officer")]
    extends: RegionId | None = Field(default=None, description="region whose policy fills in what this one leaves out")
    precision: Precision = Field(description="type of the graph, and floor for what executes")
    forbidden: tuple[Execution, ...] = Field(default=(), description="types that no kernel may execute")
    accuracy: AccuracyLimit
    latency: LatencyLimit | None = None
    speed: SpeedLimit | None = Field(default=None, exclude_if=_unstated, description="how fast an engine must be")
    performance: Performance = Performance.LATENCY
    batch: BatchProfile = BatchProfile()
    shapes: Mapping[str, DimensionProfile] = Field(
        default={},
        description="sizes taken in symbolic dimensions besides the batch, by the names that ModelSpecs give them, "
        "e.g. width; a model without such a dimension is not concerned, one with another is refused",
    )
    calibration: CalibrationRules = CalibrationRules()
    repair: RepairRules = RepairRules()
    samples: SampleMinimum = SampleMinimum()
    targets: Annotated[tuple[Target, ...], Field(min_length=1, description="where engines run; one engine each")]
    tuning: TuningRules | None = Field(
        default=None, exclude_if=_unstated, description="when stated, each new engine is tuned on its target"
    )
    approval: ApprovalRules | None = Field(default=None, description="when stated, a person approves each new engine")
    nightly: NightlyRules = NightlyRules()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # All at once, one a line, each naming its fields: whoever mends one wants to know of the others.
        mistakes = []
        if traits(self.precision).execution in self.forbidden:
            mistakes.append(f"precision {self.precision} is also listed in `forbidden`")
        if "batch" in self.shapes:
            mistakes.append("shapes.batch: the batch has a field of its own, `batch`")
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            mistakes.append(f"targets each need a name of their own, found {', '.join(names)}")
        for target in self.targets:
            if len(set(target.arithmetic)) != len(target.arithmetic):
                mistakes.append(f"targets: {target.name} lists a class of arithmetic twice")
        for precision in self.repair.fallback or ():
            if traits(precision).execution in self.forbidden:
                mistakes.append(f"repair.fallback lists {precision}, which is also listed in `forbidden`")
            if precision is self.precision or not wider_or_equal(precision, self.precision):
                mistakes.append(
                    f"repair.fallback lists {precision}, which is not wider than precision {self.precision}"
                )
        stated = {"tuning": self.tuning.minutes if self.tuning else None, "repair": self.repair.minutes}
        mistakes += [
            f"{group}.minutes {minutes:g} leave nothing of nightly.deadline_minutes "
            f"{self.nightly.deadline_minutes:g} for the build"
            for group, minutes in stated.items()
            if minutes is not None and minutes >= self.nightly.deadline_minutes
        ]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def stage_minutes(self) -> float:
        """The longest that a stage of a build may take by what the policy states of it; 0 where it states nothing."""
        return max(self.tuning.minutes if self.tuning else 0.0, self.repair.minutes or 0.0)

    def stated_choice(self) -> GraphChoice:
        """The graph that the policy asks for in the first place."""
        method = self.calibration.method if traits(self.precision).quantized else None
        return GraphChoice(precision=self.precision, method=method)

    def wider_precisions(self) -> tuple[Precision, ...]:
        """Precisions that may be shipped instead of the stated one, narrowest first."""
        if self.repair.fallback is not None:
            return tuple(sorted(self.repair.fallback, key=lambda each: -width(each)))
        return tuple(
            precision
            for precision in sorted(Precision, key=lambda each: -width(each))
            if precision is not self.precision
            and wider_or_equal(precision, self.precision)
            and traits(precision).execution not in self.forbidden
        )

    def allows(self, execution: Execution) -> bool:
        """Whether a kernel may compute in a type."""
        return execution not in self.forbidden and not coarser_than(execution, self.precision)

    def shapes_for(self, inputs: Sequence[TensorSpec]) -> dict[str, DimensionProfile]:
        """The profile of each symbolic dimension besides the batch that `inputs` have; others are left out.

        Raises:
            MissingProfile: the policy states none for one of them. It is not made up from the data: what an engine
                takes is what the region promises its consumers.
        """
        profiles = {}
        for name in (size for tensor in inputs for size in tensor.shape[1:] if isinstance(size, str)):
            if name not in self.shapes:
                near = difflib.get_close_matches(name, self.shapes, n=1)
                raise MissingProfile(
                    expected=f"`shapes.{name}` in the policy of {self.region!r}: the model leaves that size open",
                    found=f"shapes for {', '.join(sorted(self.shapes)) or 'nothing'}",
                    remedy=f"rename shapes.{near[0]} to {name}"
                    if near
                    else f"state it in the policy, e.g. shapes: {{{name}: {{min: 48, opt: 320, max: 640}}}}",
                )
            profiles[name] = self.shapes[name]
        return profiles

    def demands(self) -> dict[str, Any]:
        """What the resolved policy demands of engines and of their approval, as JSON; not in which words."""
        return self.model_dump(mode="json", exclude=_NOT_DEMANDED)

    def demands_digest(self) -> str:
        """Identity of what is demanded, which a build key holds: engines are kept under it.

        A policy that goes on demanding the same must keep it: a field that comes later has a default that asks for
        nothing and is left out where it says that (`Field(exclude_if=...)`).
        """
        return digest_of(self.demands())

    def digest(self) -> str:
        """Identity of the resolved policy with its words, not of when engines are made. Decisions are signed over it,
        so that it must stay what it was, as `demands_digest`.
        """
        return digest_bytes(self.canonical())

    def canonical(self) -> bytes:
        """The resolved policy, all of it but `extends` and `nightly`, as canonical JSON, which reads back as a policy
        of the same digest."""
        return canonical_json(self.model_dump(mode="json", exclude={"extends", "nightly"}))

    def has_digest(self, digest: str | None) -> bool:
        """Whether a digest is this policy's: of its demands, or of all of it, as in build keys from before there was
        the first."""
        return digest in (self.demands_digest(), self.digest())

    def target(self, name: str) -> Target:
        """The target of that name."""
        return next(target for target in self.targets if target.name == name)
