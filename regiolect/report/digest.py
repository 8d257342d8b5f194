"""What a night did, in a line, as Markdown and as a page."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from regiolect import __version__
from regiolect.contracts import Decision, NightlyResult, ReleaseRow
from regiolect.integrity import write_atomic
from regiolect.report import words
from regiolect.report.page import templates
from regiolect.report.summary import markdown_table


def digest_line(result: NightlyResult) -> str:
    """The night in a line, what needs attention first."""
    rows = _rows(result)
    blocked = [row for row in rows if needs_attention(row)]
    concerns, waiting = len(blocked) + len(result.troubles), len(result.waiting)
    parts = [
        (concerns, "needs attention" if concerns == 1 else "need attention"),
        (sum(row.rebuilt for row in rows), "built"),
        (sum(row.model_uri is not None for row in rows), "served"),
        (waiting, "model waiting" if waiting == 1 else "models waiting"),
        (result.unchanged, "unchanged"),
    ]
    counts = ", ".join(f"{count} {what}" for count, what in parts if count or what == "unchanged")
    kind = "nightly, dry run" if result.dry_run else "nightly"
    return f"{kind}: {counts} of {result.engines} engines of {result.models} models"


def markdown_digest(result: NightlyResult) -> str:
    """The night as Markdown: what stood in the way with its remedy, then each release's table."""
    lines = [digest_line(result), ""]
    for trouble in result.troubles:
        where = f"{trouble.model}, {trouble.region}" if trouble.region else trouble.model
        failure = trouble.failure
        lines.append(
            f"- **{where}: {failure.kind}**: expected {failure.expected}; found {failure.found}. "
            f"Remedy: {failure.remedy}"
        )
    lines += [f"- waits: {each}" for each in result.waiting]
    for release in result.releases:
        lines += ["", f"## {release.model}", "", markdown_table(release)]
    if result.report:
        lines += ["", f"The page: `{result.report}` on the machine of this run."]
    return "\n".join(lines)


def write_digest(result: NightlyResult, folder: Path) -> NightlyResult:
    """Write `<folder>/nightly-<start time in UTC>.html` and, beside it, the result as JSON.

    Returns:
        The result with the page's path in it.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / f"nightly-{result.started.astimezone(UTC):%Y%m%dT%H%M%S%f}.html"
    written = result.model_copy(update={"report": str(path)})
    write_atomic(path, render_digest(written).encode())
    write_atomic(path.with_suffix(".json"), written.model_dump_json(indent=2).encode())
    return written


def render_digest(result: NightlyResult) -> str:
    """The page as HTML that refers to nothing outside itself but the releases' own pages."""
    rows = [(release.model, row) for release in result.releases for row in release.rows]
    return (
        templates()
        .get_template("digest.html.j2")
        .render(
            result=result,
            started=result.started.astimezone(UTC),
            line=digest_line(result),
            rows=[(model, row, words.LossFigures.of(row)) for model, row in rows],
            attention=[(model, row) for model, row in rows if needs_attention(row)],
            pages={r.model: Path(r.report).name for r in result.releases if r.report},
            build_words=words.build_words,
            signs=words.SIGNS,
            version=__version__,
        )
    )


def needs_attention(row: ReleaseRow) -> bool:
    """Whether somebody has to look at an engine: it was refused, blocked, or is approved and not served."""
    if row.failure is not None or row.decision in (Decision.REFUSED, Decision.FAILED, Decision.INCONCLUSIVE):
        return True
    return row.decision is Decision.APPROVED and row.model_uri is None


def _rows(result: NightlyResult) -> list[ReleaseRow]:
    return [row for release in result.releases for row in release.rows]
