"""Activation ranges, sealed to a region's data and to a model."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import NonNegativeFloat, PositiveInt

from regiolect.contracts.base import Contract, Digest, RegionId


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
