"""What became of each region, and of the release as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, NonNegativeFloat, PositiveInt

from regiolect.contracts.base import Arithmetic, Blob, Contract, Digest, Precision, RegionId, TargetId
from regiolect.contracts.calibration import CalibrationTable
from regiolect.contracts.data import CheckResult
from regiolect.contracts.engine import Attestation, EngineArtifact, Target, place_of, slot_of
from regiolect.contracts.gate import (
    ApprovedEngine,
    ChampionComparison,
    Decision,
    EvaluationResult,
    GateDecision,
    LossUnit,
)
from regiolect.contracts.repair import ChosenGraph, RepairJournal
from regiolect.contracts.tuning import TunedEngine
from regiolect.errors.output import text_of
from regiolect.errors.redaction import redacted


def _absent(value: object) -> bool:
    """What is not there is left out of what is written, as it was before there could be any."""
    return not value


class Failure(Contract):
    """An error as data."""

    kind: str
    expected: str
    found: str
    remedy: str


def failure_of(error: BaseException) -> Failure:
    """An error as data, without secrets. One that is none of Regiolect's own says so and keeps what else it says."""
    parts = {name: getattr(error, name, None) for name in ("expected", "found", "remedy")}
    texts = {name: _text(value) for name, value in parts.items() if isinstance(value, str)}
    if texts.keys() == parts.keys():
        return Failure(kind=type(error).__name__, **texts)
    return Failure(
        kind=type(error).__name__,
        expected="the stage to end, or to raise an error of Regiolect's own",
        found=_text(text_of(error) or f"{type(error).__name__}()"),
        remedy="read the flow run's log; if the cause is not on this machine, report it as a defect",
    )


def _text(message: str) -> str:
    """A message that can be written anywhere: half a character, as JSON can hold it, is told by its number."""
    return redacted(message).encode(errors="backslashreplace").decode()


class RegionOutcome(Contract):
    """Everything that one run says of one region on one target; kept under its build key."""

    format: Literal[1] = 1
    model: str
    region: RegionId
    title: str
    target: Target
    arithmetic: Arithmetic | None = Field(
        default=None, exclude_if=_absent, description="class in which it was built and judged, where that matters"
    )
    precision: Precision = Field(description="the policy's; `engine` tells the graph's, which may be wider")
    policy: Digest
    build_key: Digest
    key_parts: Mapping[str, str]
    decision: Decision
    reasons: Annotated[tuple[str, ...], Field(min_length=1)]
    seconds: NonNegativeFloat = Field(description="wall time of the build that led here")
    chosen: ChosenGraph | None = None
    journal: RepairJournal | None = Field(default=None, description="of a choice that found nothing")
    checks: tuple[CheckResult, ...] = ()
    engine: EngineArtifact | None = None
    attestation: Attestation | None = None
    evaluation: EvaluationResult | None = None
    gate: GateDecision | None = None
    tuning: TunedEngine | None = Field(default=None, exclude_if=_absent)
    failure: Failure | None = None

    @property
    def slot(self) -> str:
        """As `BuildRequest.slot`."""
        return slot_of(self.target.name, self.arithmetic)

    @property
    def place(self) -> str:
        """As `BuildRequest.place`."""
        return place_of(self.target.name, self.arithmetic)

    @property
    def calibration(self) -> CalibrationTable | None:
        """The ranges that the engine's graph was made with."""
        return self.chosen.table if self.chosen is not None else None

    @property
    def repair(self) -> RepairJournal | None:
        """How the graph was chosen, or why none was."""
        return self.chosen.journal if self.chosen is not None else self.journal


class RegionAnswer(Contract):
    """What one region's flow run tells whoever waits for it: its outcome, and whether this run worked on it."""

    outcome: RegionOutcome
    built: bool


class RegisteredEngine(Contract):
    """A version in the MLflow registry, and what its tags say of the engines in it."""

    name: str
    version: PositiveInt
    uri: str
    champion: bool
    policy: Digest | None = Field(default=None, description="digest of the policy under which it was approved")
    bundle: Digest | None = Field(default=None, exclude_if=_absent, description="digest of its manifest")
    targets: tuple[TargetId, ...] = ()
    build_keys: tuple[Digest, ...] = Field(default=(), description="in the order of `targets`")
    tunings: tuple[Digest | None, ...] = Field(
        default=(), exclude_if=_absent, description="what each was tuned to, in that order; empty: none was"
    )
    arithmetics: tuple[Arithmetic | None, ...] = Field(
        default=(), exclude_if=_absent, description="class of each, in that order; empty: none has one"
    )
    promoted_by: str | None = Field(
        default=None, exclude_if=_absent, description="account of the person who made it champion; None: a release did"
    )
    because: str | None = Field(default=None, exclude_if=_absent, description="that person's reason")
    retired_key: str | None = Field(
        default=None, exclude_if=_absent, description="whose key signed its promotion, if that is not in use any more"
    )

    def serves(self, target: str, arithmetic: Arithmetic | None) -> bool:
        """Whether it holds an engine of a target and class; where either has no class, of the target."""
        classes = self.arithmetics or (None,) * len(self.targets)
        held = [of for name, of in zip(self.targets, classes, strict=False) if name == target]
        return bool(held) and (arithmetic is None or arithmetic in held or None in held)

    def build_key_of(self, target: str, arithmetic: Arithmetic | None) -> str | None:
        """The engine in the place of one of a target and class: of the same class, else where either has none."""
        classes = self.arithmetics or (None,) * len(self.targets)
        slots = zip(self.targets, classes, self.build_keys, strict=False)
        held = {of: key for name, of, key in slots if name == target}
        if arithmetic in held or None in held:
            return held.get(arithmetic) or held.get(None)
        return next(iter(held.values()), None) if arithmetic is None else None

    def tuning_of(self, build_key: str) -> str | None:
        """Digest of the tuning of one of its engines, or None."""
        return dict(zip(self.build_keys, self.tunings, strict=False)).get(build_key)


class Published(Contract):
    """What a region serves after a release, and what it does not serve and why.

    champion: the version that consumers load, be it the new one or an older one; None: the region has none.
    challenger: the new version, where it was held back.
    held: why it was.
    comparisons: the new engines against the ones that they would replace, one a target.
    """

    champion: RegisteredEngine | None
    challenger: RegisteredEngine | None = None
    held: Failure | None = None
    comparisons: tuple[ChampionComparison, ...] = ()


class AnsweredAgain(Contract):
    """What a served engine answers on a later gate set, as a region's store keeps it.

    files: digests of the engine's files that were run, in their order.
    results: per-sample results; the engine's scores stand in both columns.
    """

    files: tuple[Digest, ...]
    results: Blob


class HeldBack(Contract):
    """A version that was held back, as a region's store keeps it, so that a plan knows that nothing is to be done.

    champion: digest of the bundle that stayed champion.
    engines: build key and tuning of each engine of the version.
    """

    champion: Digest
    engines: tuple[tuple[Digest, Digest | None], ...]
    held: Failure
    comparisons: tuple[ChampionComparison, ...]


class Drill(Contract):
    """A deliberate attempt to get past a refusal. `refused` is what everybody hopes for."""

    name: str
    region: RegionId
    attempt: str
    refused: bool
    by: str = Field(description="what refused it, or what let it through")
    detail: str
    gate: GateDecision | None = None


class ReleaseRow(Contract):
    """One line of a release's table. Losses and threshold in `unit`; None where the run never got so far."""

    region: RegionId
    title: str
    target: TargetId | None
    arithmetic: Arithmetic | None = Field(
        default=None, exclude_if=_absent, description="class for which it was built; left out where there is none"
    )
    backend: str | None
    precision: Precision | None = Field(description="of the graph; the policy's where none was built")
    asked: Precision | None = Field(default=None, description="the policy's precision")
    executed: str | None
    decision: Decision
    loss: float | None
    loss_lower: float | None
    loss_upper: float | None
    threshold: float | None
    unit: LossUnit | None
    confidence: float | None
    samples: PositiveInt | None
    speedup: float | None
    p50_ms: float | None
    p99_ms: float | None
    rebuilt: bool
    seconds: NonNegativeFloat
    against: ChampionComparison | None = Field(
        default=None, exclude_if=_absent, description="the engine against the one that was served before it"
    )
    model_uri: str | None = Field(description="the name under which MLflow serves this engine; None: not served")
    build_key: Digest | None
    reasons: tuple[str, ...]
    failure: Failure | None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: the engine is approved and served, or waits for a device to be judged on."""
        served = self.decision is Decision.APPROVED and self.model_uri is not None
        return self.failure is None and (served or self.decision is Decision.NOT_ATTESTED)

    @property
    def slot(self) -> str | None:
        """As `BuildRequest.slot`; None of a region as a whole."""
        return None if self.target is None else slot_of(self.target, self.arithmetic)

    @property
    def place(self) -> str | None:
        """As `BuildRequest.place`; None of a region as a whole."""
        return None if self.target is None else place_of(self.target, self.arithmetic)


class ReleaseResult(Contract):
    """What a release did."""

    format: Literal[1] = 1
    model: str
    note: str = Field(default="", description="what the model's owner wants every reader to know")
    export: str = Field(default="", description="what export and clean-up did; empty when nothing was exported")
    started: AwareDatetime
    seconds: NonNegativeFloat
    rows: tuple[ReleaseRow, ...]
    left_out: tuple[str, ...] = Field(
        default=(), exclude_if=_absent, description="classes of arithmetic that no machine was there for, and why"
    )
    drills: tuple[Drill, ...] = ()
    report: str | None = None
    tracking_uri: str

    @property
    def complete(self) -> bool:
        """Whether every engine is approved and served, or waits for its device, and every drill held."""
        return all(drill.refused for drill in self.drills) and all(row.complete for row in self.rows)


def approved_engine(outcome: RegionOutcome) -> ApprovedEngine | None:
    """The engine of an outcome, if the gate approved it."""
    if outcome.decision is not Decision.APPROVED:
        return None
    return ApprovedEngine.model_validate(
        {
            "engine": outcome.engine,
            "attestation": outcome.attestation,
            "evaluation": outcome.evaluation,
            "decision": outcome.gate,
            "tuning": outcome.tuning,
        }
    )
