"""A study as a page: the heat map, what it comes to, and every draw."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from statistics import fmean

from regiolect.report.page import templates
from regiolect.study import words
from regiolect.study.result import StudyCell, StudyRegion, StudyResult, StudySaving, Verdict
from regiolect.study.words import called, facts

# Upper ends of the classes of loss, in points, palest first; what is above the last is the darkest.
STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
GAIN = -0.5


@dataclass(frozen=True)
class Square:
    """A cell of the heat map with what it is compared with; no saving where it is the region's own."""

    cell: StudyCell
    saving: StudySaving | None

    @property
    def tone(self) -> str:
        """The class of the loss: `gain`, or `loss-0` (next to none) to `loss-6`."""
        return tone(self.cell.loss)

    @property
    def sign(self) -> str:
        return words.sign(self.saving) if self.saving else ""

    @property
    def said(self) -> str:
        """The square in words, for a pointer that rests on it."""
        cell = self.cell
        square = (
            f"calibrated on {cell.calibrated_on}, tested on {cell.tested_on}: loss {words.points(cell.loss)} pt, "
            f"interval {words.span(cell.lower, cell.upper)}, draws {words.span(cell.lowest, cell.highest)}"
        )
        if self.saving is None:
            return f"{square}; its own calibration"
        return f"{square}; its own saves {words.points(self.saving.saving)} pt: {words.verdict(self.saving)}"


@dataclass(frozen=True)
class Row:
    """Engines of one donor."""

    donor: StudyRegion
    squares: tuple[Square, ...]


@dataclass(frozen=True)
class Home:
    """A region's own calibration beside those of the others, and what its own does elsewhere."""

    region: StudyRegion
    own: StudyCell
    foreign: tuple[StudyCell, ...]

    elsewhere: tuple[StudyCell, ...]

    @property
    def average(self) -> float:
        """Mean loss of the foreign calibrations."""
        return fmean(cell.loss for cell in self.foreign)

    @property
    def average_elsewhere(self) -> float:
        """Mean loss of the other regions under this one's calibration."""
        return fmean(cell.loss for cell in self.elsewhere)

    @property
    def best(self) -> StudyCell:
        return min(self.foreign, key=lambda cell: cell.loss)

    @property
    def worst(self) -> StudyCell:
        return max(self.foreign, key=lambda cell: cell.loss)


def tone(loss: float) -> str:
    """The class of a loss in points."""
    if loss < GAIN:
        return "gain"
    return f"loss-{sum(loss > step for step in STEPS)}"


def legend() -> tuple[tuple[str, str], ...]:
    """Classes and what they stand for, palest first."""
    inner = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(STEPS)]
    ranges = (f"gains over {-GAIN:g}", f"{-STEPS[0]:g} to {STEPS[0]:g}", *inner, f"over {STEPS[-1]:g}")
    return tuple(zip(("gain", *(f"loss-{number}" for number in range(len(STEPS) + 1))), ranges, strict=True))


def render_study(result: StudyResult) -> str:
    """The page as HTML that refers to nothing outside itself. Equal arguments give equal text, on any machine."""
    findings = words.findings(result)
    return (
        templates()
        .get_template("study.html.j2")
        .render(
            result=result,
            started=result.started.astimezone(UTC),
            findings=findings,
            methods=words.methods(result),
            facts=facts(result),
            rows=_rows(result),
            homes=_homes(result),
            legend=legend(),
            counts={verdict: len(result.with_verdict(verdict)) for verdict in Verdict},
            called=called(result),
            key=words.key(),
            verdict_of=words.verdict,
            sign_of=words.sign,
            signs=words.SIGNS,
            meanings=words.MEANINGS,
            points=words.points,
            span=words.span,
            percent=words.percent,
        )
    )


def _rows(result: StudyResult) -> list[Row]:
    return [
        Row(donor, tuple(Square(cell, result.saving(donor.region, cell.tested_on)) for cell in _of(result, donor)))
        for donor in result.regions
    ]


def _of(result: StudyResult, donor: StudyRegion) -> Sequence[StudyCell]:
    return [cell for cell in result.cells if cell.calibrated_on == donor.region]


def _homes(result: StudyResult) -> list[Home]:
    return [
        Home(
            region,
            result.cell(region.region, region.region),
            tuple(c for c in result.cells if c.tested_on == region.region != c.calibrated_on),
            tuple(c for c in result.cells if c.calibrated_on == region.region != c.tested_on),
        )
        for region in result.regions
    ]
