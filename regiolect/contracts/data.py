"""A region's data, from its three sets to the proof that every check passed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from regiolect.contracts.base import Blob, Contract, Digest, RegionId


class Split(StrEnum):
    """The three disjoint sets of a region."""

    CALIBRATION = "calibration"
    SELECTION = "selection"
    GATE = "gate"


class DeclaredStatistics(Contract):
    """What a region says of its own raw inputs: bounds of the mean and of the standard deviation over all values."""

    mean: tuple[float, float]
    std: tuple[float, float]


class SourceSet(Contract):
    """One of a region's sets as its source tells it, before any sample is loaded."""

    digest: Digest = Field(description="of the file in which it lies")
    samples: NonNegativeInt | None = Field(description="None: the file does not tell")


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
