"""What flowed through a model on a region's data, and the clip thresholds made of it; both sealed to their origin."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, NonNegativeFloat

from regiolect.contracts.base import Blob, Contract, Digest, RegionId


class CalibrationMethod(StrEnum):
    """How a clip threshold is chosen from a histogram."""

    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MINMAX = "minmax"
    MSE = "mse"


DEFAULT_METHOD = CalibrationMethod.MSE
"""Where none is stated: what lost least on five networks (docs/adr/0039)."""


class TensorRange(Contract):
    """A tensor's clip threshold and the smallest and largest value seen, in the tensor's own units."""

    threshold: NonNegativeFloat
    minimum: float
    maximum: float


class Seal(Contract):
    """Whose a calibration is: it is used for no other region, model or preprocessing, and proves what it saw."""

    region: RegionId
    model: Digest = Field(description="of the exported graph, weights included")
    preprocessing: Digest
    dataset: Digest = Field(description="of the calibration set, as it is kept in the store")
    sample_ids: Annotated[tuple[str, ...], Field(min_length=1, description="in the order in which they were seen")]
    checks: Digest = Field(description="of the data checks' results, every one of them passed")
    made: AwareDatetime = Field(description="when the samples were run through the model")

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return len(self.sample_ids)


class Observation(Contract):
    """Histograms of a model's tensors on a region's calibration set, from one pass.

    `histograms` is an .npz without pickle, see `regiolect.calibrate.archive`. Any method makes a table of them without
    running the model again.
    """

    format: Literal[1] = 1
    seal: Seal
    histograms: Blob


class CalibrationTable(Contract):
    """Clip thresholds of one model on one region's data, sealed to both.

    `tensors` maps an ONNX tensor name to its range.
    """

    format: Literal[1] = 1
    seal: Seal
    method: CalibrationMethod
    tensors: Annotated[Mapping[str, TensorRange], Field(min_length=1)]
