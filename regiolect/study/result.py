"""What a study found: every cell, every draw, and how sure each figure is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from regiolect.contracts import CalibrationMethod, Contract, Digest, Precision, RegionId


class Verdict(StrEnum):
    """What can be said of a region's own calibration against another region's, on the region's samples."""

    LOCAL = "local is better"
    FOREIGN = "foreign is better"
    MIXED = "depends on the draw"
    NONE = "no difference shown"


class StudyRegion(Contract):
    """A region's part in a study. The gate set is not among its sets."""

    region: RegionId
    title: str
    calibration: PositiveInt = Field(description="samples in its calibration set, which draws are taken from")
    calibration_digest: Digest
    selection: PositiveInt = Field(description="samples in its selection set, on which engines were tested")
    selection_digest: Digest
    reference_score: float = Field(description="mean score of FP32 on the selection set, 0 to 1")


class StudyCell(Contract):
    """Engines calibrated on one region and tested on one, a draw each.

    A loss is 100 times the mean score of FP32 less that of the engine, on the same samples: points. `lower` to `upper`
    covers the mean over these draws for other test samples, at the study's confidence for this cell by itself.
    """

    calibrated_on: RegionId
    tested_on: RegionId
    losses: Annotated[tuple[float, ...], Field(min_length=2, description="points, in the order of the seeds")]
    loss: float = Field(description="mean over draws")
    lowest: float
    highest: float
    sampling_error: NonNegativeFloat = Field(description="standard error of the mean loss over test samples, points")
    lower: float
    upper: float


class StudySaving(Contract):
    """How many points a region keeps by its own calibration instead of another region's: foreign loss less local.

    `lower` to `upper` covers the mean over these draws for other test samples, at the study's confidence for all pairs
    of the study together; `lower_alone` to `upper_alone`, for this pair if it were the only one that was looked at.
    """

    calibrated_on: RegionId = Field(description="the foreign region")
    tested_on: RegionId
    savings: Annotated[tuple[float, ...], Field(min_length=2, description="points, in the order of the seeds")]
    saving: float = Field(description="mean over draws")
    lowest: float
    highest: float
    lower: float
    upper: float
    lower_alone: float
    upper_alone: float
    verdict: Verdict

    @property
    def leaning(self) -> Verdict:
        """What would be said of a pair without verdict, were it the only one; NONE for a pair with one."""
        if self.verdict is Verdict.NONE and self.lower_alone > 0 and self.lowest > 0:
            return Verdict.LOCAL
        if self.verdict is Verdict.NONE and self.upper_alone < 0 and self.highest < 0:
            return Verdict.FOREIGN
        return Verdict.NONE


class StudyResult(Contract):
    """The full matrix of a calibration study: no cell is left out, and no draw.

    seeds: of the draws; every region draws by the same ones.
    drawn: calibration samples in a draw, taken without replacement.
    cells: every region of `regions` on every one, donors in turn.
    savings: every pair of different regions, in the same order.
    """

    format: Literal[1] = 1
    model: str
    note: str = Field(default="", description="what the model's owner wants every reader to know")
    graph: Digest = Field(description="of the exported graph")
    metric: str
    method: CalibrationMethod
    precision: Precision = Precision.INT8
    backend: str
    backend_version: str
    executed: tuple[str, ...] = Field(description="kernels by type, as the engines say; each different answer once")
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=2)]
    drawn: PositiveInt
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    regions: Annotated[tuple[StudyRegion, ...], Field(min_length=2)]
    cells: tuple[StudyCell, ...]
    savings: tuple[StudySaving, ...]
    machine: Mapping[str, str]
    toolchain: str = Field(description="libraries that exported, calibrated and gave the reference")
    regiolect: str
    started: AwareDatetime
    seconds: NonNegativeFloat
    report: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        names = [each.region for each in self.regions]
        every = [(donor, tested) for donor in names for tested in names]
        if [(cell.calibrated_on, cell.tested_on) for cell in self.cells] != every:
            raise ValueError("a study needs a cell for every region on every one, in the order of its regions")
        foreign = [pair for pair in every if pair[0] != pair[1]]
        if [(each.calibrated_on, each.tested_on) for each in self.savings] != foreign:
            raise ValueError("a study needs a saving for every two different regions, in the order of its regions")
        counts = {len(cell.losses) for cell in self.cells} | {len(each.savings) for each in self.savings}
        if counts != {len(self.seeds)}:
            raise ValueError(f"{len(self.seeds)} seeds, but cells of {sorted(counts)} draws")
        return self

    def cell(self, calibrated_on: str, tested_on: str) -> StudyCell:
        """The cell of two regions."""
        return next(c for c in self.cells if (c.calibrated_on, c.tested_on) == (calibrated_on, tested_on))

    def saving(self, calibrated_on: str, tested_on: str) -> StudySaving | None:
        """The saving over a foreign calibration; None where it is the region's own."""
        pair = (calibrated_on, tested_on)
        return next((s for s in self.savings if (s.calibrated_on, s.tested_on) == pair), None)

    def with_verdict(self, verdict: Verdict) -> tuple[StudySaving, ...]:
        """Pairs of that verdict, the largest difference first."""
        return _largest_first(each for each in self.savings if each.verdict is verdict)

    def leaning(self) -> tuple[StudySaving, ...]:
        """Pairs without a verdict that would have one if they were looked at alone, the largest difference first."""
        return _largest_first(each for each in self.savings if each.leaning is not Verdict.NONE)


def _largest_first(savings: Iterable[StudySaving]) -> tuple[StudySaving, ...]:
    return tuple(sorted(savings, key=lambda each: -abs(each.saving)))
