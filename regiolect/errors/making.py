"""An engine cannot be made, judged or run. The tree: `regiolect.errors`."""

from __future__ import annotations

from typing import Any

from regiolect.errors.base import RegiolectError


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


class AlreadyQuantized(ModelError):
    """A model arrives in INT8, and a graph of a wider precision is asked for."""


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


class EngineMiscomputes(EngineError):
    """A built engine answers otherwise than the very graph that it was built from."""


class EngineLoadFailed(EngineError):
    """An engine file could not be loaded."""


class ShapeOutsideProfile(EngineError):
    """An input's shape is outside the engine's shape profile."""


class NotRunnableHere(EngineError):
    """The engine was built for a device that this machine does not have."""


class SelfTestFailed(EngineError):
    """A loaded engine answers otherwise than where it was judged."""


class ForeignRegion(EngineError):
    """An engine is another region's than the host that would load it."""


class ForeignArithmetic(EngineError):
    """A machine's class of arithmetic is not told, or is none that the region's policy takes."""


class DeviceLost(EngineError):
    """The device went away while an engine ran on it: a GPU fell off the bus, or its driver was restarted."""


class EngineCrashed(EngineError):
    """The process in which a vendor's library ran died, hung, or took more memory than it may."""


class OtherProcess(EngineError):
    """An engine is used in a process that did not load it: a forked child has none of the threads that compute."""


class InvalidConfiguration(EngineError):
    """A configuration holds a setting that may not be tuned."""


class AttestationFailed(EngineError):
    """What a built engine says of its precision cannot be read, so nothing can be said of it."""


class TuningError(RegiolectError):
    """An engine cannot be tuned, or what was found of it cannot be used."""


class ServingError(RegiolectError):
    """A served model does not take a request."""


class Overloaded(ServingError):
    """More is asked than is answered in time; nothing was computed for this request.

    Attributes:
        retry_after: seconds after which it is worth asking again.
    """

    retry_after: float = 0.0

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"retry_after": self.retry_after})


class ModelClosed(ServingError):
    """The served model was closed."""


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


class PromotionHeld(RegiolectError):
    """An approved version is not made champion."""


class WorseThanChampion(PromotionHeld):
    """Consumers may be worse off with it than with what is served."""


class ChampionNotComparable(PromotionHeld):
    """It could not be compared with what is served."""


class TargetNotServed(PromotionHeld):
    """It would take a target's engine away."""


class GateRefused(RegiolectError):
    """The gate did not approve; the engine may not become champion."""
