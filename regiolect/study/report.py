"""A study as Markdown, and all that is written of it."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from regiolect.integrity import write_atomic
from regiolect.study import words
from regiolect.study.result import StudyCell, StudyResult


def write_study(result: StudyResult, folder: Path) -> StudyResult:
    """Write `<folder>/study-<model>-<start time in UTC>.html` and, beside it, .json and .md.

    Returns:
        The result with the page's path in it.

    Raises:
        StorageError: the folder cannot be written.
    """
    from regiolect.study.page import render_study

    path = folder / f"study-{result.model}-{result.started.astimezone(UTC):%Y%m%dT%H%M%S}.html"
    written = result.model_copy(update={"report": str(path)})
    write_atomic(path, render_study(written).encode())
    write_atomic(path.with_suffix(".md"), markdown_study(written).encode())
    write_atomic(path.with_suffix(".json"), written.model_dump_json(indent=2).encode())
    return written


def markdown_study(result: StudyResult) -> str:
    """The study as Markdown: what it comes to, the matrix, every pair that differs, and how it was made."""
    names = [each.region for each in result.regions]
    lines = [f"# {result.model}: what local calibration saves", ""]
    lines += [f"{result.note}", ""] if result.note else []
    lines += [f"- {finding}" for finding in words.findings(result)]
    lines += [
        "",
        "## Loss in points",
        "",
        f"Mean over {len(result.seeds)} draws (lowest to highest draw). Rows: calibrated on; columns: tested on. "
        "The region's own calibration is bold. "
        + "; ".join(f"{sign} {meaning}" for sign, meaning in words.key())
        + ".",
        "",
        f"| calibrated on | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
    ]
    for donor in names:
        lines.append(f"| {donor} | {' | '.join(_cell(result, result.cell(donor, tested)) for tested in names)} |")
    called = words.called(result)
    if called:
        lines += [
            "",
            "## Pairs that differ, or lean",
            "",
            "| tested on | calibrated on | local saves | interval | lowest to highest draw | verdict |",
            "| --- | --- | ---: | ---: | ---: | --- |",
        ]
        lines += [
            f"| {each.tested_on} | {each.calibrated_on} | {words.points(each.saving)} | "
            f"{words.span(each.lower, each.upper)} | {words.span(each.lowest, each.highest)} | {words.verdict(each)} |"
            for each in called
        ]
    lines += ["", "## How it was measured", ""]
    lines += [f"- {method}" for method in words.methods(result)]
    lines += [f"- {fact}: {value}" for fact, value in words.facts(result)]
    return "\n".join(lines) + "\n"


def _cell(result: StudyResult, cell: StudyCell) -> str:
    saving = result.saving(cell.calibrated_on, cell.tested_on)
    loss, draws = words.points(cell.loss), f"({words.span(cell.lowest, cell.highest)})"
    if saving is None:
        return f"**{loss}** {draws}"
    return f"{loss}{words.sign(saving)} {draws}"
