"""The report's two plots, as SVG text to be put inline."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regiolect.contracts import Decision, ReleaseRow

INK = "#1f2933"
MUTED = "#7b8794"
COLOURS = {
    Decision.APPROVED: "#1b7f5c",
    Decision.FAILED: "#c0392b",
    Decision.INCONCLUSIVE: "#c77f0a",
    Decision.NOT_ATTESTED: "#2b6cb0",
    Decision.REFUSED: "#c0392b",
}
# Text stays text, so that it can be searched and read aloud; ids and dates are fixed, so that equal runs give equal
# files.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "regiolect", "font.family": "sans-serif", "font.size": 9.5}


def loss_plot(rows: Sequence[ReleaseRow]) -> str | None:
    """Loss with its interval against the threshold, a line per gated engine; None when none was gated."""
    gated = [row for row in rows if row.loss is not None]
    if not gated:
        return None
    with rc_context(STYLE):
        figure, axes = _canvas(len(gated))
        for y, row in enumerate(gated):
            if row.loss is None or row.loss_lower is None or row.loss_upper is None or row.threshold is None:
                continue
            colour = COLOURS[row.decision]
            axes.plot([row.loss_lower, row.loss_upper], [y, y], color=colour, linewidth=3.5, solid_capstyle="round")
            axes.plot(row.loss, y, marker="o", color="white", markeredgecolor=colour, markeredgewidth=1.6, markersize=6)
            axes.plot([row.threshold] * 2, [y - 0.34, y + 0.34], color=INK, linewidth=2)
            axes.annotate(
                f"{row.threshold:g}", (row.threshold, y), (5, 0), textcoords="offset points", va="center", color=INK
            )
        axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel("accuracy loss against FP32: estimate and bounds (left of 0: better); bar: the limit")
        _label_rows(axes, gated)
        return _svg(figure)


def speed_plot(rows: Sequence[ReleaseRow]) -> str | None:
    """Speed-up over FP32 through the same backend, a bar per timed engine; None when none was timed."""
    timed = [row for row in rows if row.speedup is not None]
    if not timed:
        return None
    with rc_context(STYLE):
        figure, axes = _canvas(len(timed))
        for y, row in enumerate(timed):
            speedup = row.speedup or 0.0
            axes.barh(y, speedup, height=0.55, color=COLOURS[row.decision])
            axes.annotate(
                f"{speedup:.2f}x", (speedup, y), (5, 0), textcoords="offset points", va="center", color=INK
            )
        axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (3, 3)))
        axes.set_xlim(0, max((row.speedup or 0.0) for row in timed) * 1.15)
        axes.set_xlabel("times as fast as FP32 through the same backend, median of interleaved rounds")
        _label_rows(axes, timed)
        return _svg(figure)


def _canvas(rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.2, 0.36 * rows + 0.9), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _label_rows(axes: Axes, rows: Sequence[ReleaseRow]) -> None:
    names = [f"{row.region}  {row.precision}" + (f"  ({row.backend})" if row.backend else "") for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    # Only the element itself: an XML prologue has no place inside HTML.
    return text[text.index("<svg") :]
