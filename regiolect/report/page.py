"""From a release's result to its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from regiolect import __version__
from regiolect.contracts import Decision, RegionOutcome, ReleaseResult, short
from regiolect.integrity import write_atomic
from regiolect.machine import cpu_fingerprint
from regiolect.report.charts import loss_plot, speed_plot


def write_report(result: ReleaseResult, outcomes: Sequence[RegionOutcome], folder: Path) -> ReleaseResult:
    """Write `<folder>/<model>-<start time>.html` and, beside it, the result as JSON.

    Args:
        outcomes: what lies behind the rows: checks, calibration, attestation.

    Returns:
        The result with the report's path in it.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / f"{result.model}-{result.started:%Y%m%dT%H%M%S}.html"
    written = result.model_copy(update={"report": str(path)})
    write_atomic(path, render(written, outcomes).encode())
    write_atomic(path.with_suffix(".json"), written.model_dump_json(indent=2).encode())
    return written


def render(result: ReleaseResult, outcomes: Sequence[RegionOutcome]) -> str:
    """The page as HTML that refers to nothing outside itself."""
    environment = Environment(
        loader=PackageLoader("regiolect.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    return environment.get_template("report.html.j2").render(
        result=result,
        outcomes=outcomes,
        by_precision=_by_precision(result),
        counts=Counter(row.decision.value for row in result.rows),
        loss_plot=loss_plot(result.rows),
        speed_plot=speed_plot(result.rows),
        cpu=cpu_fingerprint(),
        version=__version__,
    )


def _by_precision(result: ReleaseResult) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for row in result.rows:
        names = groups.setdefault(row.precision.value if row.precision else "unknown", [])
        if row.region not in names:
            names.append(row.region)
    return groups


def figures(result: ReleaseResult) -> dict[str, float]:
    """A release in numbers, by metric name, for a registry that plots them over time."""
    gated = [row for row in result.rows if row.loss_upper is not None]
    per_engine = {f"loss_upper/{row.region}-{row.target}": float(row.loss_upper or 0.0) for row in gated}
    speedups = {f"speedup/{row.region}-{row.target}": row.speedup for row in gated if row.speedup is not None}
    approved = sum(row.decision is Decision.APPROVED for row in result.rows)
    return {"engines": len(result.rows), "approved": approved, "seconds": result.seconds, **per_engine, **speedups}


def markdown_table(result: ReleaseResult) -> str:
    """The release's table as Markdown, for a Prefect artifact."""
    lines = [
        "| region | target | graph | executed | decision | loss | limit | vs FP32 | served as |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result.rows:
        loss = "-" if row.loss is None else f"{row.loss:+.2f} ({row.loss_lower:+.2f} .. {row.loss_upper:+.2f})"
        limit = "-" if row.threshold is None else f"{row.threshold:g}"
        speed = "-" if row.speedup is None else f"{row.speedup:.2f}x"
        cells = (row.region, row.target or "-", row.precision or "-", row.executed or "-", row.decision.value)
        lines.append(f"| {' | '.join(cells)} | {loss} | {limit} | {speed} | {row.model_uri or '-'} |")
    lines += [f"\n**Drill, {drill.name}**: {'refused by ' if drill.refused else 'NOT refused: '}{drill.by}" for drill in result.drills]
    return "\n".join(lines)
