"""What travels between stages: frozen, complete, small. URIs and digests, never bytes.

The order of this file is the order of the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256 of canonical bytes")]
RegionId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="a region's short name")]
TargetId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="a target's short name")]


def short(digest: str) -> str:
    """The first twelve hexadecimal digits of a digest, for people to read."""
    return digest.removeprefix("sha256:")[:12]


class Contract(BaseModel):
    """A stage type: immutable, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Blob(Contract):
    """Content kept in the artifact store."""

    uri: str
    digest: Digest
    size: NonNegativeInt


class NamedBlob(Contract):
    """A file of a bundle: its relative path there and its content."""

    path: str
    blob: Blob


# ------------------------------------------------------------------------------------------------ precision


class Precision(StrEnum):
    """The type of a graph, as a policy states it."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"


class Execution(StrEnum):
    """The type in which a kernel computes. precision.py orders them."""

    FP32 = "FP32"
    TF32 = "TF32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "INT8"


# ------------------------------------------------------------------------------------------------ data


class Split(StrEnum):
    """The three disjoint sets of a region."""

    CALIBRATION = "calibration"
    SELECTION = "selection"
    GATE = "gate"


class DeclaredStatistics(Contract):
    """What a region says of its own raw inputs: bounds of the mean and of the standard deviation over all values."""

    mean: tuple[float, float]
    std: tuple[float, float]


class SampleSet(Contract):
    """One of a region's three sets, kept in the store as an .npz without pickle."""

    region: RegionId
    split: Split
    samples: PositiveInt
    blob: Blob

    @property
    def digest(self) -> str:
        return self.blob.digest


class RegionDataset(Contract):
    """A region's three sets and what it declares of them."""

    region: RegionId
    calibration: SampleSet
    selection: SampleSet
    gate: SampleSet
    declared: DeclaredStatistics
    classes: PositiveInt | None = Field(default=None, description="number of labels that must all occur, if labelled")


class CheckResult(Contract):
    """One expectation on the data."""

    expectation: str
    split: Split | Literal["all"]
    passed: bool
    expected: str
    observed: str


class ValidatedCalibration(Contract):
    """A region's data after every check passed. Building it from a failed check is a validation error."""

    dataset: RegionDataset
    checks: Annotated[tuple[CheckResult, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _every_check_passed(self) -> Self:
        failed = [check.expectation for check in self.checks if not check.passed]
        if failed:
            raise ValueError(f"data checks failed: {', '.join(failed)}")
        return self

    @property
    def region(self) -> str:
        return self.dataset.region


# ------------------------------------------------------------------------------------------------ model


class TensorSpec(Contract):
    """A named model input. A string in `shape` is a symbolic dimension; the first is always the batch."""

    name: str
    dtype: Literal["float32"] = "float32"
    shape: Annotated[tuple[int | str, ...], Field(min_length=1)]


class Preprocessing(Contract):
    """What turns a raw input into a model input: (raw * scale - mean) / std, per channel (axis 1), as float32.

    It is data, not code, so that a bundle can carry it and its digest can seal a calibration. `raw_dtype` is the type
    of the raw input, which a consumer sends.
    """

    raw_dtype: Literal["uint8", "int16", "int32", "int64", "float32"] = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)


class ParityReport(Contract):
    """The exported graph against its source on real samples; errors are largest absolute output differences."""

    samples: PositiveInt
    tolerance: NonNegativeFloat
    worst_sample: str
    worst_error: NonNegativeFloat


class ExportedModel(Contract):
    """A model as a cleaned FP32 ONNX graph with a dynamic batch."""

    name: str
    source: Digest = Field(description="digest of the files and settings that define the model")
    graph: Blob
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    preprocessing: Preprocessing
    preprocessing_digest: Digest
    opset: PositiveInt
    nodes_before: PositiveInt
    nodes_after: PositiveInt
    bytes_before: PositiveInt
    bytes_after: PositiveInt
    parity: ParityReport | None = Field(description="None only for a model that arrived as ONNX: nothing to compare")


# ------------------------------------------------------------------------------------------------ calibration


class CalibrationMethod(StrEnum):
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MINMAX = "minmax"


class TensorRange(Contract):
    """A tensor's clip threshold and the smallest and largest value seen, in the tensor's own units."""

    threshold: NonNegativeFloat
    minimum: float
    maximum: float


class CalibrationTable(Contract):
    """Clip thresholds of one model on one region's data, sealed to both.

    `tensors` maps an ONNX tensor name to its range.
    """

    region: RegionId
    model: Digest
    dataset: Digest
    preprocessing: Digest
    method: CalibrationMethod
    samples: PositiveInt
    tensors: Mapping[str, TensorRange]


# ------------------------------------------------------------------------------------------------ engines


class BatchProfile(Contract):
    """The batch sizes an engine accepts. With `buckets`, a batch is padded up to the next bucket and trimmed after."""

    min: PositiveInt = 1
    opt: PositiveInt = 8
    max: PositiveInt = 64
    buckets: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"batch profile must hold min <= opt <= max, found {self.min}, {self.opt}, {self.max}")
        if self.buckets and (list(self.buckets) != sorted(set(self.buckets)) or self.buckets[-1] != self.max):
            raise ValueError(f"buckets must rise and end at max={self.max}, found {list(self.buckets)}")
        return self


class Performance(StrEnum):
    """What an engine is tuned for."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


class Target(Contract):
    """Where an engine runs, and through what."""

    name: TargetId
    backend: str


class BuildRequest(Contract):
    """All that a backend needs to build one engine.

    `graph` is already typed: its precision lives in it. `build_key` names the engine for ever.
    """

    model: str
    region: RegionId
    target: Target
    precision: Precision
    graph: Blob
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    profile: BatchProfile
    performance: Performance
    policy: Digest
    build_key: Digest


class EngineArtifact(Contract):
    """A built engine: pristine files plus what anybody needs to know to load it."""

    format: Literal[1] = 1
    request: BuildRequest
    backend_version: str
    files: Annotated[tuple[NamedBlob, ...], Field(min_length=1)]
    fingerprint: Mapping[str, str] = Field(description="the machine it was built for, as the backend sees it")
    calibration: Digest | None = Field(default=None, description="digest of the calibration table, for INT8")


class Attestation(Contract):
    """What the graph says and what the built engine says of its precision: compute nodes by type.

    `executed` is None for an engine that cannot run here; such an engine is never approved.
    """

    graph: Mapping[Precision, NonNegativeInt]
    executed: Mapping[Execution, PositiveInt] | None
    source: str = Field(description="what `executed` was read from")

    def summary(self) -> str:
        """`INT8 9 + FP32 2`, coarsest first; `unknown` when nothing could be read."""
        if self.executed is None:
            return "unknown"
        order = list(Execution)[::-1]
        return " + ".join(f"{kind} {self.executed[kind]}" for kind in order if kind in self.executed)


# ------------------------------------------------------------------------------------------------ evaluation


class Timing(Contract):
    """Engine and FP32 baseline, interleaved in one run on one machine. Times in milliseconds per batch."""

    batch: PositiveInt
    rounds: PositiveInt
    p50_ms: PositiveFloat
    p99_ms: PositiveFloat
    baseline_p50_ms: PositiveFloat
    baseline_p99_ms: PositiveFloat
    throughput: PositiveFloat = Field(description="samples per second at the median")
    speedup: PositiveFloat = Field(description="median over rounds of baseline time / engine time")


class EvaluationResult(Contract):
    """Reference and engine on the same gate samples, in the same order.

    `results` is a CSV with the columns sample_id, reference, engine (scores; 0 or 1 for right/wrong metrics).
    """

    build_key: Digest
    dataset: Digest
    metric: str
    samples: PositiveInt
    reference_score: float
    engine_score: float
    results: Blob
    timing: Timing


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


class GateDecision(Contract):
    """The gate's answer with every figure it rests on. Losses are in `unit`; negative means the engine is better."""

    outcome: Literal[Decision.APPROVED, Decision.FAILED, Decision.INCONCLUSIVE]
    metric: str
    unit: LossUnit
    loss: float
    loss_lower: float
    loss_upper: float
    threshold: NonNegativeFloat
    confidence: float
    samples: PositiveInt
    samples_needed: PositiveInt | None = Field(default=None, description="estimate, when inconclusive")
    reasons: Annotated[tuple[str, ...], Field(min_length=1)]


class ApprovedEngine(Contract):
    """An engine that the gate approved; the only thing that may become champion."""

    engine: EngineArtifact
    attestation: Attestation
    evaluation: EvaluationResult
    decision: GateDecision

    @model_validator(mode="after")
    def _is_approved_and_its_own(self) -> Self:
        if self.decision.outcome is not Decision.APPROVED:
            raise ValueError(f"the gate said {self.decision.outcome}")
        if self.attestation.executed is None:
            raise ValueError("the engine is not attested")
        if self.evaluation.build_key != self.engine.request.build_key:
            raise ValueError("the evaluation belongs to another engine")
        return self


# ------------------------------------------------------------------------------------------------ outcome


class Failure(Contract):
    """An error as data."""

    kind: str
    expected: str
    found: str
    remedy: str


def failure_of(error: BaseException) -> Failure:
    """An error as data. One that is none of Regiolect's own says so and keeps its whole message."""
    told = {name: getattr(error, name, None) for name in ("expected", "found", "remedy")}
    if all(isinstance(text, str) for text in told.values()):
        return Failure(kind=type(error).__name__, **told)
    return Failure(
        kind=type(error).__name__,
        expected="the stage to end, or to raise an error of Regiolect's own",
        found=str(error) or repr(error),
        remedy="read the flow run's log; if the cause is not on this machine, report it as a defect",
    )


class RegionOutcome(Contract):
    """Everything that one run says of one region on one target; kept under its build key."""

    format: Literal[1] = 1
    model: str
    region: RegionId
    title: str
    target: Target
    precision: Precision
    policy: Digest
    build_key: Digest
    key_parts: Mapping[str, str]
    decision: Decision
    reasons: Annotated[tuple[str, ...], Field(min_length=1)]
    seconds: NonNegativeFloat = Field(description="wall time of the build that led here")
    calibration: CalibrationTable | None = None
    checks: tuple[CheckResult, ...] = ()
    engine: EngineArtifact | None = None
    attestation: Attestation | None = None
    evaluation: EvaluationResult | None = None
    gate: GateDecision | None = None
    failure: Failure | None = None


class RegisteredEngine(Contract):
    """A version in the MLflow registry."""

    name: str
    version: PositiveInt
    uri: str
    champion: bool


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
    backend: str | None
    precision: Precision | None
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
    model_uri: str | None = Field(description="the name under which MLflow serves this engine; None: not served")
    build_key: Digest | None
    reasons: tuple[str, ...]
    failure: Failure | None


class ReleaseResult(Contract):
    """What a release did."""

    format: Literal[1] = 1
    model: str
    started: AwareDatetime
    seconds: NonNegativeFloat
    rows: tuple[ReleaseRow, ...]
    drills: tuple[Drill, ...] = ()
    report: str | None = None
    tracking_uri: str
