"""What travels between stages: frozen, complete, small. URIs and digests, never bytes.

The modules follow the pipeline: base, data, model, calibration, engine, gate, repair, release, audit. Import from here.
"""

from regiolect.contracts.audit import AuditedEngine, AuditedVersion, AuditResult
from regiolect.contracts.base import Blob, Contract, Digest, Execution, NamedBlob, Precision, RegionId, TargetId, short
from regiolect.contracts.calibration import CalibrationMethod, CalibrationTable, Observation, Seal, TensorRange
from regiolect.contracts.data import (
    CheckResult,
    DeclaredStatistics,
    RegionDataset,
    SampleSet,
    Split,
    ValidatedCalibration,
)
from regiolect.contracts.engine import (
    Attestation,
    BatchProfile,
    BuildRequest,
    DimensionProfile,
    EngineArtifact,
    Performance,
    Target,
    TargetMachine,
)
from regiolect.contracts.gate import (
    ApprovedEngine,
    Decision,
    EvaluationResult,
    GateDecision,
    GateRule,
    LossUnit,
    SliceFigures,
    Timing,
)
from regiolect.contracts.layers import GraphNode, LayerReport, Layers, Strength
from regiolect.contracts.model import ExportedModel, ParityReport, Preprocessing, TensorSpec
from regiolect.contracts.nightly import NightlyResult, Trouble
from regiolect.contracts.release import (
    Drill,
    Failure,
    RegionAnswer,
    RegionOutcome,
    RegisteredEngine,
    ReleaseResult,
    ReleaseRow,
    failure_of,
)
from regiolect.contracts.repair import (
    ChosenGraph,
    Comparison,
    GraphChoice,
    RepairJournal,
    RepairStep,
    SensitiveOperator,
)

__all__ = [
    "ApprovedEngine",
    "Attestation",
    "AuditResult",
    "AuditedEngine",
    "AuditedVersion",
    "BatchProfile",
    "Blob",
    "BuildRequest",
    "CalibrationMethod",
    "CalibrationTable",
    "CheckResult",
    "ChosenGraph",
    "Comparison",
    "Contract",
    "Decision",
    "DeclaredStatistics",
    "Digest",
    "DimensionProfile",
    "Drill",
    "EngineArtifact",
    "EvaluationResult",
    "Execution",
    "ExportedModel",
    "Failure",
    "GateDecision",
    "GateRule",
    "GraphChoice",
    "GraphNode",
    "LayerReport",
    "Layers",
    "LossUnit",
    "NamedBlob",
    "NightlyResult",
    "Observation",
    "ParityReport",
    "Performance",
    "Precision",
    "Preprocessing",
    "RegionAnswer",
    "RegionDataset",
    "RegionId",
    "RegionOutcome",
    "RegisteredEngine",
    "ReleaseResult",
    "ReleaseRow",
    "RepairJournal",
    "RepairStep",
    "SampleSet",
    "Seal",
    "SensitiveOperator",
    "SliceFigures",
    "Split",
    "Strength",
    "Target",
    "TargetId",
    "TargetMachine",
    "TensorRange",
    "TensorSpec",
    "Timing",
    "Trouble",
    "ValidatedCalibration",
    "failure_of",
    "short",
]
