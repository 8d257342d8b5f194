"""Every error that Regiolect raises on purpose.

RegiolectError
├── UsageError                       what was asked for does not exist or cannot be read as asked
│   ├── UnknownRegion
│   ├── UnknownTarget
│   ├── UnknownModel
│   ├── UnknownBackend
│   ├── InvalidModelSpec
│   └── InvalidSetting
├── PolicyError                      a region policy is wrong
│   ├── InvalidPolicy
│   ├── PolicyTooNew                 a policy file of a format that only a newer Regiolect reads
│   ├── PolicyCycle
│   ├── PolicyLoosens
│   └── MissingProfile               no bounds for a dimension that the model leaves open
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
│   └── PrecisionOverflow            a value lies outside the range of the type it is given
├── CalibrationError
│   ├── ForeignCalibration           provenance: sealed to another region, model or preprocessing
│   ├── InvalidCalibration           damaged, unfinished, of another format, or it contradicts itself
│   ├── EmptyHistogram
│   ├── NonFiniteActivation
│   └── MissingThreshold
├── EngineError
│   ├── BackendUnavailable
│   ├── BuildFailed
│   ├── EngineLoadFailed
│   ├── ShapeOutsideProfile
│   ├── NotRunnableHere
│   └── AttestationFailed            an engine says of itself what nobody here can read
├── EvaluationError
│   ├── ReferenceFailed              the FP32 reference gives no answers
│   ├── NothingWithinLimit           no graph that the policy allows loses little enough
│   └── InvalidResults
│       └── NonFiniteOutputs         a graph answers with NaN or infinity
├── GateRefused                      only an approved engine may become champion
├── AuditError                       something speaks against an engine that consumers can load
│   ├── DecisionNotReproduced        the gate, asked again on the same results, decides otherwise
│   ├── SamplesSeenBefore            the gate judged by samples of the calibration set
│   ├── NoLongerAllowed              by today's policy
│   └── CalibrationTooOld
├── IntegrityError                   bytes differ from their digest
│   └── InvalidBundle                a bundle is unfinished, of an unknown format or contradicts itself
├── UntrustedEngine                  nobody who is trusted here says that this engine was approved
│   ├── NoTrust                      no trust file, or one that cannot be read
│   ├── UnsignedEngine
│   ├── UnknownKey                   signed by a key that the trust file does not name
│   ├── RevokedKey
│   ├── RetiredKey                   signed after its key was retired
│   ├── SignatureMismatch            the signature is not that of what was signed
│   ├── StatementMismatch            what was signed is not what is there
│   └── AliasMoved                   `champion` points where no release pointed it
├── SigningError                     a decision cannot be signed
│   ├── NoSigningKey
│   └── InvalidSigningKey            the file holds no key that can be used
├── StorageError                     the store cannot be read or written
│   ├── ContentMissing               the store has no content of that digest
│   ├── ForeignStore                 the store is another region's, or the bucket lies in another AWS region
│   ├── StoreUnreachable             nothing answers at the endpoint, or what answers is not S3
│   ├── StoreAccessRefused           no credentials, or the store refuses them
│   ├── NoSuchBucket
│   ├── ClockOff                     this machine's clock differs too much from the store's
│   └── StoreFull
├── RegistryError                    MLflow cannot be reached, read or written
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

from typing import Any


class RegiolectError(Exception):
    """Base of the tree.

    Args:
        expected: what would have been right.
        found: what was there instead.
        remedy: what to do or type next.
    """

    exit_code = 1

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(f"expected {expected}; found {found}. Remedy: {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (workers, Prefect states); subclasses may have other constructors.
        return (_rebuild, (type(self), self.expected, self.found, self.remedy))


def _rebuild(kind: type[RegiolectError], expected: str, found: str, remedy: str) -> RegiolectError:
    error = kind.__new__(kind)
    RegiolectError.__init__(error, expected, found, remedy)
    return error


class UsageError(RegiolectError):
    exit_code = 2


class UnknownRegion(UsageError):
    """No policy has that name."""


class UnknownTarget(UsageError):
    """No policy of the release names that target."""


class UnknownModel(UsageError):
    """No ModelSpec is found under that name."""


class UnknownBackend(UsageError):
    """The catalog lists no backend of that name."""


class InvalidModelSpec(UsageError):
    """The name leads to something that is not a usable ModelSpec."""


class InvalidSetting(UsageError):
    """An environment variable or option has an unusable value."""


class PolicyError(RegiolectError):
    exit_code = 2


class InvalidPolicy(PolicyError):
    """A policy file does not validate."""


class PolicyTooNew(PolicyError):
    """A policy file is of a format that only a newer Regiolect reads."""


class PolicyCycle(PolicyError):
    """`extends` leads back to itself."""


class PolicyLoosens(PolicyError):
    """A child policy allows what its parent forbids."""


class MissingProfile(PolicyError):
    """A policy gives no bounds for a dimension that a model leaves open."""


class DataError(RegiolectError):
    """A region's data cannot be used."""


class InvalidSamples(DataError):
    """Wrong dtype or shape, or values that are not finite."""


class EmptyDataset(DataError):
    """A set has no samples."""


class TooFewSamples(DataError):
    """A set is smaller than what is asked of it."""


class ForeignSamples(DataError):
    """Samples belong to another region, or to another set than the one asked for."""


class ChangedMeanwhile(DataError):
    """Model or data changed between the plan and the build."""


class DataCheckFailed(DataError):
    """An expectation on the data was not met.

    Attributes:
        checks: every contracts.CheckResult of the region, passed and failed; empty where none was run.
    """

    checks: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"checks": self.checks})


class ModelError(RegiolectError):
    """A model cannot be exported."""


class ExportFailed(ModelError):
    """The framework could not turn the model into ONNX."""


class InvalidOnnx(ModelError):
    """An ONNX file is truncated or does not pass the checker."""


class UnsupportedOperator(ModelError):
    """The graph holds an operator that no engine here runs."""


class ParityFailed(ModelError):
    """ONNX and the source model disagree on a real sample."""


class PrecisionOverflow(ModelError):
    """A constant or scale lies outside the range of the type it is given."""


class CalibrationError(RegiolectError):
    """A calibration cannot be made or used."""


class ForeignCalibration(CalibrationError):
    """A calibration is sealed to another region, model or preprocessing."""


class InvalidCalibration(CalibrationError):
    """A kept calibration is damaged, unfinished, of another format, or contradicts itself."""


class EmptyHistogram(CalibrationError):
    """Nothing was counted."""


class NonFiniteActivation(CalibrationError):
    """An activation was NaN or infinite during calibration."""


class MissingThreshold(CalibrationError):
    """A tensor to be quantized has no threshold in the table."""


class EngineError(RegiolectError):
    """An engine cannot be built, loaded or run."""


class BackendUnavailable(EngineError):
    """The backend's library is not installed or does not work here."""


class BuildFailed(EngineError):
    """The backend refused the graph."""


class EngineLoadFailed(EngineError):
    """An engine file could not be loaded."""


class ShapeOutsideProfile(EngineError):
    """An input's shape is outside the engine's shape profile."""


class NotRunnableHere(EngineError):
    """The engine was built for a device that this machine does not have."""


class AttestationFailed(EngineError):
    """What a built engine says of its precision cannot be read, so nothing can be said of it."""


class EvaluationError(RegiolectError):
    """Results cannot be used."""


class ReferenceFailed(EvaluationError):
    """The FP32 reference cannot be loaded or run."""


class NothingWithinLimit(EvaluationError):
    """No graph that a policy allows loses little enough on the selection set.

    Attributes:
        journal: every graph that was tried, as a RepairJournal.
    """

    journal: Any = None

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"journal": self.journal})


class InvalidResults(EvaluationError):
    """Per-sample results are missing, misaligned or not finite."""


class NonFiniteOutputs(InvalidResults):
    """The reference or an engine answers with NaN or infinity."""


class GateRefused(RegiolectError):
    """The gate did not approve; the engine may not become champion."""


class AuditError(RegiolectError):
    """Something speaks against an engine that consumers can load."""


class DecisionNotReproduced(AuditError):
    """The gate, asked again on the same results, decides otherwise."""


class SamplesSeenBefore(AuditError):
    """The gate judged by samples that the engine was calibrated on."""


class NoLongerAllowed(AuditError):
    """Today's policy would not approve the engine."""


class CalibrationTooOld(AuditError):
    """The calibration is older than today's policy allows."""


class IntegrityError(RegiolectError):
    """Bytes differ from the digest they are kept under."""


class InvalidBundle(IntegrityError):
    """A bundle is unfinished, of an unknown format, or contradicts itself."""


class UntrustedEngine(RegiolectError):
    """Nobody who is trusted here says that this engine was approved. Nothing of it was loaded."""


class NoTrust(UntrustedEngine):
    """There is no trust file, or it cannot be read."""


class UnsignedEngine(UntrustedEngine):
    """An engine carries no signed decision."""


class UnknownKey(UntrustedEngine):
    """A decision is signed by a key that the trust file does not name."""


class RevokedKey(UntrustedEngine):
    """A decision is signed by a key that was revoked: nothing that it ever signed counts."""


class RetiredKey(UntrustedEngine):
    """A decision was signed after its key was retired."""


class SignatureMismatch(UntrustedEngine):
    """A signature is not that of what it stands under."""


class StatementMismatch(UntrustedEngine):
    """What was signed is true of another engine than the one that is there."""


class AliasMoved(UntrustedEngine):
    """The registry's `champion` points at a version that no release made champion."""


class SigningError(RegiolectError):
    """A decision cannot be signed."""


class NoSigningKey(SigningError):
    """There is no key to sign with."""


class InvalidSigningKey(SigningError):
    """A file holds no private key that can be used."""


class StorageError(RegiolectError):
    """The artifact store cannot be read or written."""


class ContentMissing(StorageError):
    """The store has no content of that digest."""


class ForeignStore(StorageError):
    """The store belongs to another of our regions, or its bucket lies in another AWS region."""


class StoreUnreachable(StorageError):
    """Nothing answers at the store's endpoint, or what answers is not S3."""


class StoreAccessRefused(StorageError):
    """There are no credentials for the store, or it refuses them."""


class NoSuchBucket(StorageError):
    """The store's bucket does not exist."""


class ClockOff(StorageError):
    """This machine's clock differs too much from the store's."""


class StoreFull(StorageError):
    """The store has no room for more content."""


class RegistryError(RegiolectError):
    """MLflow cannot be reached, read or written."""


class ServerFailed(RegiolectError):
    """A server of this machine's own set (`regiolect up`) did not start, or died."""


class OrchestratorError(RegiolectError):
    """Prefect cannot be started or reached."""


class NoDeployment(OrchestratorError):
    """The server knows no deployment for a region's target."""


class NoWorker(OrchestratorError):
    """No worker of the target's pool took the build in time."""


class DeadlineExceeded(OrchestratorError):
    """A build took longer than its region's policy allows."""


class RunLost(OrchestratorError):
    """A worker died, or its run was stopped, before it answered."""


class OtherVersion(OrchestratorError):
    """A worker runs another version of Regiolect than the release that sent it work."""


class RegistrationBusy(OrchestratorError):
    """Another run is registering under the same name, or died doing so."""


class ApprovalMissing(OrchestratorError):
    """A person said no, or nobody answered in time."""
