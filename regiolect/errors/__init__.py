"""Every error that Regiolect raises on purpose.

RegiolectError
├── UsageError                       what was asked for does not exist or cannot be read as asked
│   ├── UnknownRegion
│   ├── UnknownTarget
│   ├── UnknownModel
│   ├── UnknownBackend
│   ├── InvalidModelSpec
│   └── InvalidSetting
├── UnusableFile                     no regular file, or one that is larger than such a file may be
├── PolicyError                      a region policy is wrong
│   ├── InvalidPolicy
│   ├── PolicyTooNew                 a policy file of a format that only a newer Regiolect reads
│   ├── PolicyCycle
│   ├── PolicyLoosens
│   └── MissingProfile               no bounds for a dimension that the model leaves open
├── PlanError                        a release cannot go by a plan that was kept
│   ├── InvalidPlan                  the file is no plan, or one of a format that is not read here
│   └── OutdatedPlan                 a release would do something else now
├── DataError                        a region's data cannot be used
│   ├── InvalidSamples
│   ├── EmptyDataset
│   ├── TooFewSamples                a set is smaller than what is asked of it
│   ├── ForeignSamples               samples of another region, or of another of a region's sets
│   ├── ChangedMeanwhile
│   └── DataCheckFailed
├── ModelError                       a model cannot be exported
│   ├── ExportFailed
│   ├── InvalidOnnx
│   ├── UnsupportedOperator
│   ├── ParityFailed
│   ├── PrecisionOverflow            a value lies outside the range of the type it is given
│   └── AlreadyQuantized             it arrives in INT8, so no wider graph of it can be made
├── CalibrationError
│   ├── ForeignCalibration           provenance: sealed to another region, model or preprocessing
│   ├── InvalidCalibration           damaged, unfinished, of another format, or it contradicts itself
│   ├── EmptyHistogram
│   ├── NonFiniteActivation
│   └── MissingThreshold
├── EngineError
│   ├── BackendUnavailable
│   ├── BuildFailed
│   ├── EngineMiscomputes            it answers otherwise than the graph that it was built from
│   ├── EngineLoadFailed
│   ├── ShapeOutsideProfile
│   ├── NotRunnableHere
│   ├── SelfTestFailed               it answers otherwise than where it was judged
│   ├── ForeignRegion                the engine is another region's than the host
│   ├── ForeignArithmetic            a machine of a class that the policy does not take, or that tells none
│   ├── DeviceLost                   it went away while an engine ran on it
│   ├── EngineCrashed                the process that it ran in died, hung, or took too much memory
│   ├── OtherProcess                 a forked child uses what its parent loaded
│   ├── InvalidConfiguration         a setting that may not be tuned
│   └── AttestationFailed            an engine says of itself what nobody here can read
├── TuningError                      an engine cannot be tuned, or what was found of it cannot be used
├── ServingError                     a served model does not take a request
│   ├── Overloaded                   more is asked than is answered in time
│   └── ModelClosed
├── EvaluationError
│   ├── ReferenceFailed              the FP32 reference gives no answers
│   ├── NothingWithinLimit           no graph that the policy allows loses little enough
│   └── InvalidResults
│       └── NonFiniteOutputs         a graph answers with NaN or infinity
├── GateRefused                      only an approved engine may become champion
├── PromotionHeld                    an approved version is not made champion
│   ├── WorseThanChampion            consumers may be worse off than with what is served
│   ├── ChampionNotComparable        with what is served: it cannot be read, or does not run here
│   └── TargetNotServed              a target would lose its engine
├── AuditError                       something speaks against an engine that consumers can load
│   ├── DecisionNotReproduced        the gate, asked again on the same results, decides otherwise
│   ├── SamplesSeenBefore            the gate judged by samples of the calibration set
│   ├── NoLongerAllowed              by today's policy
│   ├── CalibrationTooOld
│   ├── ClassNotTold                 an INT8 engine of which nobody knows the arithmetic it was judged in
│   └── VersionMissing               the registry lacks what a release put there, or an alias points at nothing
├── IntegrityError                   bytes differ from their digest
│   ├── TruncatedFile                some of them are missing at the end
│   └── InvalidBundle                a bundle is unfinished, of an unknown format or contradicts itself
├── UntrustedEngine                  nobody who is trusted here says that this engine was approved
│   ├── NoTrust                      no trust file, or one that cannot be read or that others can change
│   ├── UnsignedEngine
│   ├── UnknownKey                   signed by a key that the trust file does not name
│   ├── RevokedKey
│   ├── RetiredKey                   signed after its key was retired
│   ├── SignatureMismatch            the signature is not that of what was signed
│   ├── StatementMismatch            what was signed is not what is there
│   └── AliasMoved                   `champion` points where no release pointed it
├── SigningError                     a decision cannot be signed
│   ├── NoSigningKey
│   └── InvalidSigningKey            the file holds no key that can be used, or others can read it
├── StorageError                     the store cannot be read or written
│   ├── ContentMissing               the store has no content of that digest
│   ├── ForeignStore                 the store is another region's, or the bucket lies in another AWS region
│   ├── StoreUnreachable             nothing answers at the endpoint, or what answers is not S3
│   ├── StoreAccessRefused           no credentials, or the store refuses them
│   ├── NoSuchBucket
│   ├── ClockOff                     this machine's clock differs too much from the store's
│   └── StoreFull
├── RegistryError                    MLflow cannot be reached, read or written
├── Busy                             another process had what this one needs for too long
├── ServerFailed                     a server of this machine's own set did not start, or died
└── OrchestratorError                Prefect cannot be started or reached
    ├── NoDeployment                 the server knows no deployment for a region's target
    ├── NoWorker                     no worker of the target's pool took the build in time
    ├── DeadlineExceeded             a build took longer than its region's policy allows
    ├── RunLost                      a worker died, or its run was stopped, before it answered
    ├── OtherVersion                 a worker runs another version of Regiolect than the release
    ├── RegistrationBusy             another run is registering under that name, or died doing so
    └── ApprovalMissing              a person said no, or nobody answered in time

Each says what was expected, what was found and how to mend it; a vendor's error stays attached as the cause.
"""

from __future__ import annotations

from regiolect.errors.base import (
    RegiolectError,
)
from regiolect.errors.inputs import (
    ChangedMeanwhile,
    DataCheckFailed,
    DataError,
    EmptyDataset,
    ForeignSamples,
    InvalidModelSpec,
    InvalidPlan,
    InvalidPolicy,
    InvalidSamples,
    InvalidSetting,
    MissingProfile,
    OutdatedPlan,
    PlanError,
    PolicyCycle,
    PolicyError,
    PolicyLoosens,
    PolicyTooNew,
    TooFewSamples,
    UnknownBackend,
    UnknownModel,
    UnknownRegion,
    UnknownTarget,
    UnusableFile,
    UsageError,
)
from regiolect.errors.making import (
    AlreadyQuantized,
    AttestationFailed,
    BackendUnavailable,
    BuildFailed,
    CalibrationError,
    ChampionNotComparable,
    DeviceLost,
    EmptyHistogram,
    EngineCrashed,
    EngineError,
    EngineLoadFailed,
    EngineMiscomputes,
    EvaluationError,
    ExportFailed,
    ForeignArithmetic,
    ForeignCalibration,
    ForeignRegion,
    GateRefused,
    InvalidCalibration,
    InvalidConfiguration,
    InvalidOnnx,
    InvalidResults,
    MissingThreshold,
    ModelClosed,
    ModelError,
    NonFiniteActivation,
    NonFiniteOutputs,
    NothingWithinLimit,
    NotRunnableHere,
    OtherProcess,
    Overloaded,
    ParityFailed,
    PrecisionOverflow,
    PromotionHeld,
    ReferenceFailed,
    SelfTestFailed,
    ServingError,
    ShapeOutsideProfile,
    TargetNotServed,
    TuningError,
    UnsupportedOperator,
    WorseThanChampion,
)
from regiolect.errors.places import (
    ApprovalMissing,
    Busy,
    ClockOff,
    ContentMissing,
    DeadlineExceeded,
    ForeignStore,
    NoDeployment,
    NoSuchBucket,
    NoWorker,
    OrchestratorError,
    OtherVersion,
    RegistrationBusy,
    RegistryError,
    RunLost,
    ServerFailed,
    StorageError,
    StoreAccessRefused,
    StoreFull,
    StoreUnreachable,
)
from regiolect.errors.trust import (
    AliasMoved,
    AuditError,
    CalibrationTooOld,
    ClassNotTold,
    DecisionNotReproduced,
    IntegrityError,
    InvalidBundle,
    InvalidSigningKey,
    NoLongerAllowed,
    NoSigningKey,
    NoTrust,
    RetiredKey,
    RevokedKey,
    SamplesSeenBefore,
    SignatureMismatch,
    SigningError,
    StatementMismatch,
    TruncatedFile,
    UnknownKey,
    UnsignedEngine,
    UntrustedEngine,
    VersionMissing,
)

__all__ = [
    "AliasMoved",
    "AlreadyQuantized",
    "ApprovalMissing",
    "AttestationFailed",
    "AuditError",
    "BackendUnavailable",
    "BuildFailed",
    "Busy",
    "CalibrationError",
    "CalibrationTooOld",
    "ChampionNotComparable",
    "ClassNotTold",
    "ChangedMeanwhile",
    "ClockOff",
    "ContentMissing",
    "DataCheckFailed",
    "DataError",
    "DeadlineExceeded",
    "DecisionNotReproduced",
    "DeviceLost",
    "EmptyDataset",
    "EmptyHistogram",
    "EngineCrashed",
    "EngineError",
    "EngineLoadFailed",
    "EngineMiscomputes",
    "EvaluationError",
    "ExportFailed",
    "ForeignArithmetic",
    "ForeignCalibration",
    "ForeignRegion",
    "ForeignSamples",
    "ForeignStore",
    "GateRefused",
    "IntegrityError",
    "InvalidBundle",
    "InvalidCalibration",
    "InvalidConfiguration",
    "InvalidModelSpec",
    "InvalidOnnx",
    "InvalidPlan",
    "InvalidPolicy",
    "InvalidResults",
    "InvalidSamples",
    "InvalidSetting",
    "InvalidSigningKey",
    "MissingProfile",
    "MissingThreshold",
    "ModelClosed",
    "ModelError",
    "NoDeployment",
    "NoLongerAllowed",
    "NoSigningKey",
    "NoSuchBucket",
    "NoTrust",
    "NoWorker",
    "NonFiniteActivation",
    "NonFiniteOutputs",
    "NotRunnableHere",
    "NothingWithinLimit",
    "OtherProcess",
    "OrchestratorError",
    "OtherVersion",
    "OutdatedPlan",
    "Overloaded",
    "ParityFailed",
    "PlanError",
    "PolicyCycle",
    "PolicyError",
    "PolicyLoosens",
    "PolicyTooNew",
    "PrecisionOverflow",
    "PromotionHeld",
    "ReferenceFailed",
    "RegiolectError",
    "RegistrationBusy",
    "RegistryError",
    "RetiredKey",
    "RevokedKey",
    "RunLost",
    "SamplesSeenBefore",
    "SelfTestFailed",
    "ServerFailed",
    "ServingError",
    "ShapeOutsideProfile",
    "SignatureMismatch",
    "SigningError",
    "StatementMismatch",
    "StorageError",
    "StoreAccessRefused",
    "StoreFull",
    "StoreUnreachable",
    "TargetNotServed",
    "TooFewSamples",
    "TruncatedFile",
    "TuningError",
    "UnknownBackend",
    "UnknownKey",
    "UnknownModel",
    "UnknownRegion",
    "UnknownTarget",
    "UnsignedEngine",
    "UnsupportedOperator",
    "UntrustedEngine",
    "UnusableFile",
    "UsageError",
    "VersionMissing",
    "WorseThanChampion",
]
