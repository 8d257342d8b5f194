"""Evaluation and the gate's answer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AllowInfNan, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from regiolect.contracts.base import Arithmetic, Blob, Contract, Digest, TargetId
from regiolect.contracts.engine import Attestation, EngineArtifact, place_of, slot_of
from regiolect.contracts.tuning import TunedEngine


def _absent(value: object) -> bool:
    """What is not there is left out of what is written, as it was before there could be any."""
    return value is None


class Timing(Contract):
    """Engine and FP32 baseline, interleaved in one run on one machine. Times in milliseconds per round."""

    batch: PositiveInt
    batches: PositiveInt = Field(default=1, description="batches handed over at once in a round")
    rounds: PositiveInt
    p50_ms: PositiveFloat
    p99_ms: PositiveFloat = Field(description="99th percentile of the rounds, a point estimate")
    p99_upper_ms: PositiveFloat | None = Field(
        default=None,
        description="upper confidence bound of the 99th percentile; None: the rounds were too few for one",
    )
    p50_upper_ms: PositiveFloat | None = Field(default=None, description="upper confidence bound of the median")
    baseline_p50_ms: PositiveFloat
    baseline_p99_ms: PositiveFloat
    throughput: PositiveFloat = Field(description="samples per second at the median")
    speedup: PositiveFloat = Field(description="median over rounds of baseline time / engine time")
    speedup_lower: PositiveFloat | None = Field(
        default=None, description="lower confidence bound of that median; None: the rounds were too few for one"
    )


class EvaluationResult(Contract):
    """Reference and engine on the same gate samples, in the same order.

    `results` is a CSV with the columns sample_id, reference, engine (scores; 0 or 1 for right/wrong metrics) and those
    by which the policy slices. `selftest` holds what an INT8 engine is asked wherever it is loaded
    (`regiolect.engines.selftest`); None for a wider one, and for one that was judged before there was any.
    """

    build_key: Digest
    dataset: Digest
    metric: str
    samples: PositiveInt
    # The gate tells of what is not finite, with the other figures that are not of its results.
    reference_score: Annotated[float, AllowInfNan(True)]
    engine_score: Annotated[float, AllowInfNan(True)]
    results: Blob
    timing: Timing
    selftest: Blob | None = Field(default=None, exclude_if=_absent)
    metric_code: Digest | None = Field(
        default=None,
        exclude_if=_absent,
        description="of the metric's code, by which scores of two releases are known to be of the same; None: not kept",
    )


class Decision(StrEnum):
    """What became of a region's engine."""

    APPROVED = "approved"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_ATTESTED = "built, not attested"
    REFUSED = "refused"


class LossUnit(StrEnum):
    """absolute_points: (reference - engine) * 100. relative_percent: that over the reference score."""

    ABSOLUTE_POINTS = "absolute_points"
    RELATIVE_PERCENT = "relative_percent"


GateRule = Literal["accuracy", "least", "samples", "slices", "precision", "latency", "throughput", "speedup"]


Verdict = Literal[Decision.APPROVED, Decision.FAILED, Decision.INCONCLUSIVE]
"""What the gate says of one engine, one rule of one, or one comparison. An outcome is what a region's run came to."""


class SliceFigures(Contract):
    """The gate's answer on the samples that share one value. Losses are in the decision's unit.

    loss and loss_upper are None where nothing tells them; loss_lower is None as well where the upper bound decided.
    """

    column: str = Field(description="what the samples are told apart by: label, or an attribute of theirs")
    value: str
    samples: NonNegativeInt
    loss: float | None
    loss_lower: float | None = None
    loss_upper: float | None
    limit: NonNegativeFloat
    outcome: Verdict = Field(description="as files have it; code reads `verdict`")

    @property
    def verdict(self) -> Verdict:
        """What the gate says of this slice."""
        return self.outcome


def surely_better(loss_upper: float | None, limit: float | None) -> bool:
    """Whether an engine is better than its reference by more than it may be worse, beyond doubt.

    Taking precision away gives nothing: such an engine is no find, but a sign that the metric is of errors, or that
    reference and engine are not of one model.
    """
    return loss_upper is not None and limit is not None and loss_upper < -limit


class GateDecision(Contract):
    """The gate's answer with every figure it rests on. Losses are in `unit`; negative means the engine is better."""

    outcome: Verdict = Field(description="as files have it; code reads `verdict`")
    metric: str
    unit: LossUnit
    loss: float
    loss_lower: float
    loss_upper: float
    threshold: NonNegativeFloat
    confidence: float
    samples: PositiveInt
    samples_needed: PositiveInt | None = Field(default=None, description="estimate, when inconclusive")
    slices: tuple[SliceFigures, ...] = Field(default=(), description="the policy's, each to pass by itself")
    least: float | None = Field(
        default=None, exclude_if=_absent, description="lowest score that the policy allows the engine itself, 0 to 1"
    )
    score_lower: float | None = Field(
        default=None, exclude_if=_absent, description="lower bound of the engine's own score, where there is a lowest"
    )
    blocked_by: tuple[GateRule, ...] = Field(default=(), description="the rules that did not hold")
    reasons: Annotated[tuple[str, ...], Field(min_length=1)]

    @property
    def verdict(self) -> Verdict:
        """What the gate says of the engine."""
        return self.outcome


class ChampionComparison(Contract):
    """A new engine against the one that consumers of its target load now, on the same gate samples.

    Losses are in `unit`: positive means that consumers would be worse off. They are None where the two could not be
    compared, which `reason` tells; only `approved` lets the new engine take the other's place.
    """

    target: TargetId
    arithmetic: Arithmetic | None = Field(
        default=None, exclude_if=_absent, description="the new engine's class, where its target has one for each"
    )
    engine: Digest = Field(description="build key of the new engine")
    champion: str = Field(description="the version that is served, e.g. models:/fashion-eu/3")
    served: Digest | None = Field(description="build key of the served engine; None: it could not be found out")
    outcome: Verdict = Field(description="as files have it; code reads `verdict`")
    again: bool = Field(default=False, description="the served engine was run again: gate set or metric had changed")
    unit: LossUnit
    limit: NonNegativeFloat
    confidence: float
    samples: PositiveInt | None = None
    loss: float | None = None
    loss_lower: float | None = None
    loss_upper: float | None = None
    reason: str

    @property
    def verdict(self) -> Verdict:
        """Whether consumers surely lose no more than the limit."""
        return self.outcome

    @property
    def slot(self) -> str:
        """As `BuildRequest.slot`."""
        return slot_of(self.target, self.arithmetic)

    @property
    def place(self) -> str:
        """As `BuildRequest.place`."""
        return place_of(self.target, self.arithmetic)


class ApprovedEngine(Contract):
    """An engine that the gate approved; the only thing that may become champion."""

    engine: EngineArtifact
    attestation: Attestation
    evaluation: EvaluationResult
    decision: GateDecision
    tuning: TunedEngine | None = Field(
        default=None, exclude_if=_absent, description="its operating points, if it was tuned on its target"
    )

    @model_validator(mode="after")
    def _is_approved_and_its_own(self) -> Self:
        if self.decision.verdict is not Decision.APPROVED or self.decision.blocked_by:
            raise ValueError(f"the gate said {self.decision.verdict}")
        if self.attestation.executed is None:
            raise ValueError("the engine is not attested")
        if self.evaluation.build_key != self.engine.request.build_key:
            raise ValueError("the evaluation belongs to another engine")
        if self.tuning is not None and self.tuning.build_key != self.engine.request.build_key:
            raise ValueError("the tuning belongs to another engine")
        return self


UNITS: Mapping[LossUnit, str] = {LossUnit.ABSOLUTE_POINTS: "pt", LossUnit.RELATIVE_PERCENT: "%"}
