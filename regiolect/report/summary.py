"""A release for other tools: as metrics and as Markdown."""

from __future__ import annotations

from regiolect.contracts import Decision, ReleaseResult, ReleaseRow, place_of
from regiolect.planning import Plan
from regiolect.report.words import ChampionFigures, LossFigures, counted, precision_words, suspicion

# No more than fit on the page that shows them, which hides what is wider than it.
COLUMNS = ("region", "target", "precision", "decision", "loss", "limit", "vs FP32", "served as")


def figures(result: ReleaseResult) -> dict[str, float]:
    """A release in numbers, by metric name, for a registry that plots them over time.

    Always `engines`, `approved`, `served` and `seconds`; per gated engine `loss_upper/<region>-<slot>` in the unit of
    its policy, per timed one `speedup/<region>-<slot>`.
    """
    rows = result.rows
    named = [(f"{row.region}-{row.slot}", row) for row in rows]
    bounds = {f"loss_upper/{name}": row.loss_upper for name, row in named if row.loss_upper is not None}
    speedups = {f"speedup/{name}": row.speedup for name, row in named if row.speedup is not None}
    return {
        "engines": len(rows),
        "approved": sum(row.decision is Decision.APPROVED for row in rows),
        "served": sum(row.model_uri is not None for row in rows),
        "seconds": result.seconds,
        **bounds,
        **speedups,
    }


def release_line(result: ReleaseResult) -> str:
    """The release in a line."""
    of = figures(result)
    counts = ", ".join(f"{of[what]:g} {what}" for what in ("approved", "served"))
    return f"{result.model}: {counted(len(result.rows), 'engine')}, {counts} in {result.seconds:.0f} s"


def markdown_table(result: ReleaseResult) -> str:
    """The release as Markdown: the table, then what was refused with its remedy, then the drills."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(map(_cell, _cells(row)))} |" for row in result.rows]
    for row in result.rows:
        if row.failure is not None:
            detail = f"expected {row.failure.expected}; found {row.failure.found}. Remedy: {row.failure.remedy}"
            lines.append(f"\n**{_cell(row.region)}, {_cell(row.failure.kind)}**: {_cell(detail)}")
        elif row.decision in (Decision.FAILED, Decision.INCONCLUSIVE):
            lines.append(f"\n**{_cell(row.region)}, {row.decision.value}**: {_cell('; '.join(row.reasons))}")
        beside = ChampionFigures.of(row)
        if beside is not None:
            lines.append(f"\n**{_cell(row.region)}, against the champion**: {_cell(f'{beside.said} {beside.bounds}')}")
        suspicious = suspicion(row)
        if suspicious is not None:
            lines.append(f"\n**{_cell(row.region)}**: {_cell(suspicious)}")
    lines += [f"\n**Left out**: {_cell(detail)}" for detail in result.left_out]
    for drill in result.drills:
        verdict = f"refused by {drill.by}, as it must be" if drill.refused else f"NOT refused ({drill.by})"
        lines.append(f"\n**Deliberate drill, {_cell(drill.name)}**: {_cell(verdict)}")
    return "\n".join(lines)


def markdown_plan(plan: Plan) -> str:
    """A plan as Markdown: what would be done for each region and target, and why."""
    lines = ["| region | target | precision | action | why |", "| --- | --- | --- | --- | --- |"]
    for engine in plan.engines:
        place = place_of(engine.target, engine.arithmetic) if engine.target else "-"
        cells = (engine.region, place, engine.precision or "-", engine.action, engine.reason)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    remedies = [f"\n**{_cell(e.place)}**: {_cell(e.failure.remedy)}" for e in plan.engines if e.failure is not None]
    return "\n".join([plan.summary(), "", *lines, *remedies])


def _cells(row: ReleaseRow) -> tuple[str, ...]:
    loss = LossFigures.of(row)
    return (
        row.region,
        row.place or "-",
        precision_words(row),
        row.decision.value,
        f"{loss.said}, {loss.bounds}" if loss else "-",
        loss.allowed if loss else "-",
        "-" if row.speedup is None else f"{row.speedup:.2f}x",
        row.model_uri or "-",
    )


def _cell(text: str) -> str:
    """Text that stays one cell on one line, and text, not mark-up."""
    kept = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(kept.split())
