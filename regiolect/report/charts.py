"""The report's two plots as geometry: positions in percent of a plot's width, which the page draws as inline SVG.

Positions rather than pictures: text stays the page's own text, escaped as such, and the plots follow the width of the
window and its colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from regiolect.contracts import Decision, Drill, ReleaseRow
from regiolect.report.words import LossFigures, kernel_words, runs_wider

# What is farther out is drawn as an arrow, so that one bad engine does not squash the others. In limits.
FARTHEST_LEFT, FARTHEST_RIGHT = -1.5, 2.25
MARGIN = 0.1
# Percent of the width that an interval off the scale as a whole leaves at the edge, for its arrow.
STUB = 4.0
MOST_TICKS = 8


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    x: float
    label: str


@dataclass(frozen=True)
class LossLine:
    """One engine's loss. None where the limit is 0, which leaves no scale to draw on.

    `mark` is None too where the estimate lies off the scale; `beyond_left` and `beyond_right` say that the interval
    goes on there.
    """

    name: str
    detail: str
    decision: Decision
    deliberate: bool
    figures: LossFigures
    left: float | None
    right: float | None
    mark: float | None
    beyond_left: bool
    beyond_right: bool

    @property
    def spoken(self) -> str:
        """The line for somebody who cannot see it."""
        figures = f"loss {self.figures.said}, interval {self.figures.bounds}, limit {self.figures.allowed}"
        return f"{self.name}, {self.detail}: {figures}, {self.decision.value}"


@dataclass(frozen=True)
class LossPlot:
    """Losses, each on the scale of its own limit."""

    lines: tuple[LossLine, ...]
    ticks: tuple[Tick, ...]
    zero: float
    limit: float


@dataclass(frozen=True)
class SpeedBar:
    """One engine's speed-up; the bar starts at 1."""

    name: str
    detail: str
    speedup: float
    p50_ms: float | None
    left: float
    width: float

    @property
    def spoken(self) -> str:
        """The bar for somebody who cannot see it."""
        return f"{self.name}, {self.detail}: {self.speedup:.2f} times as fast as FP32"


@dataclass(frozen=True)
class SpeedPlot:
    """Speed-ups on a logarithmic axis: half as fast is as far to the left as twice as fast is to the right."""

    bars: tuple[SpeedBar, ...]
    ticks: tuple[Tick, ...]
    one: float


def loss_plot(rows: Sequence[ReleaseRow], drills: Sequence[Drill] = ()) -> LossPlot | None:
    """Loss with its interval, as a share of the limit, a line per gated engine and per gated drill; None without any.

    Limits of 0.1 and of 3 points, absolute and relative ones, are so compared on one axis.
    """
    judged = [_Judged(_name(row), _detail(row), row.decision, False, LossFigures.of(row)) for row in rows]
    judged += [
        _Judged(f"{drill.region}, drill", drill.name, drill.gate.verdict, True, LossFigures.of(drill.gate))
        for drill in drills
        if drill.gate is not None
    ]
    shares = [share for one in judged for share in one.shares]
    start = min([-0.25, *(share for share in shares if share >= FARTHEST_LEFT)]) - MARGIN
    end = max([1.25, *(share for share in shares if share <= FARTHEST_RIGHT)]) + MARGIN
    lines = tuple(_line(one, one.figures, start, end) for one in judged if one.figures is not None)
    if not lines:
        return None
    halves = range(math.ceil(2 * start), math.floor(2 * end) + 1)
    return LossPlot(
        lines=lines,
        ticks=tuple(Tick(_place(half / 2, start, end), _limits(half / 2)) for half in halves),
        zero=_place(0, start, end),
        limit=_place(1, start, end),
    )


def speed_plot(rows: Sequence[ReleaseRow]) -> SpeedPlot | None:
    """Speed-up over FP32 through the same backend, a bar per timed engine; None when none was timed."""
    timed = [(row, row.speedup) for row in rows if row.speedup]
    if not timed:
        return None
    start = min(-1, math.floor(min(math.log2(speedup) for _, speedup in timed)))
    end = max(2, math.ceil(max(math.log2(speedup) for _, speedup in timed)))

    def bar(row: ReleaseRow, speedup: float) -> SpeedBar:
        left, right = sorted((_place(0, start, end), _place(math.log2(speedup), start, end)))
        return SpeedBar(_name(row), _detail(row), speedup, row.p50_ms, left, round(right - left, 2))

    step = math.ceil((end - start) / MOST_TICKS)
    octaves = [octave for octave in range(start, end + 1) if octave % step == 0]
    return SpeedPlot(
        bars=tuple(bar(row, speedup) for row, speedup in timed),
        ticks=tuple(Tick(_place(octave, start, end), f"{2.0**octave:g}x") for octave in octaves),
        one=_place(0, start, end),
    )


@dataclass(frozen=True)
class _Judged:
    """What was judged, before there is a scale to draw it on."""

    name: str
    detail: str
    decision: Decision
    deliberate: bool
    figures: LossFigures | None

    @property
    def shares(self) -> tuple[float, ...]:
        """Lower bound, loss and upper bound in limits; empty without a limit to share."""
        if self.figures is None or self.figures.limit == 0:
            return ()
        return tuple(
            value / self.figures.limit for value in (self.figures.lower, self.figures.loss, self.figures.upper)
        )


def _line(judged: _Judged, figures: LossFigures, start: float, end: float) -> LossLine:
    about = (judged.name, judged.detail, judged.decision, judged.deliberate, figures)
    if not judged.shares:
        return LossLine(*about, left=None, right=None, mark=None, beyond_left=False, beyond_right=False)
    lower, loss, upper = judged.shares
    return LossLine(
        *about,
        left=_place(max(lower, start), start, end) if lower <= end else 100 - STUB,
        right=_place(min(upper, end), start, end) if upper >= start else STUB,
        mark=_place(loss, start, end) if start <= loss <= end else None,
        beyond_left=lower < start,
        beyond_right=upper > end,
    )


def _place(value: float, start: float, end: float) -> float:
    """Where `value` lies on an axis from `start` to `end`, in percent."""
    return round(100 * (value - start) / (end - start), 2)


def _name(row: ReleaseRow) -> str:
    return f"{row.region} on {row.target}" if row.target else row.region


def _detail(row: ReleaseRow) -> str:
    precision = row.precision.value if row.precision else "precision unknown"
    return f"{precision} graph, {kernel_words(row)}" if runs_wider(row) else precision


def _limits(share: float) -> str:
    return {0.0: "0", 1.0: "limit"}.get(share, f"{share:g}x")
