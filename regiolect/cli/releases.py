"""What a release came to, in the terminal: a table, or where that does not fit, a few lines for each engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from regiolect.cli.terminal import Terminal, coloured, out, print_failure, shown
from regiolect.contracts import Decision, Drill, NightlyResult, ReleaseResult, ReleaseRow
from regiolect.report.digest import digest_line
from regiolect.report.words import ChampionFigures, LossFigures, build_words, counted, precision_words, suspicion

_COLOURS: Mapping[Decision, str] = {
    Decision.APPROVED: "green",
    Decision.FAILED: "red",
    Decision.INCONCLUSIVE: "yellow",
    Decision.NOT_ATTESTED: "cyan",
    Decision.REFUSED: "red",
}
# Wider than a table gets.
_ANY = 10_000


def print_release(result: ReleaseResult) -> None:
    """What became of each engine, the drills, and where to look next."""
    console = out()
    title, table = f"{shown(result.model)}: {counted(len(result.rows), 'engine')}", _table(result)
    if console.measure(table, options=console.options.update(width=_ANY)).maximum <= console.width:
        table.title, table.title_justify = title, "left"
        console.print(table)
    else:
        console.print(title, style="italic")
        for row in result.rows:
            _print_lines(console, row)
    # A line that is not read in a terminal is whole; in one it ends between words.
    whole = not console.is_terminal
    console.print(_legend(result), style="dim", soft_wrap=whole)
    if result.note:
        console.print(shown(result.note), style="dim", soft_wrap=whole)
    for row in result.rows:
        _print_reasons(console, row)
    for reason in result.left_out:
        console.print(coloured("magenta", "left out"), shown(reason), soft_wrap=True)
    _print_drills(console, result.drills)
    if result.report:
        console.print(f"report   {shown(result.report)}", soft_wrap=True)
    console.print(f"registry {shown(result.tracking_uri)}", soft_wrap=True)
    console.print(_closing(result), soft_wrap=whole)


def _closing(result: ReleaseResult) -> str:
    """`tiny: 2 built (1 not approved), 1 kept, 1 refused in 1 min 53 s, 05:06:07 to 05:08:00`.

    An engine that was refused is counted as that alone, whatever was worked on it.
    """
    refused = [row for row in result.rows if row.decision is Decision.REFUSED]
    built = [row for row in result.rows if row.rebuilt and row not in refused]
    blocked = sum(row.decision in (Decision.FAILED, Decision.INCONCLUSIVE) for row in built)
    of_built = f" ({blocked} not approved)" if blocked else ""
    kept = len(result.rows) - len(built) - len(refused)
    counts = f"{len(built)} built{of_built}, {kept} kept, {len(refused)} refused"
    begin = result.started.astimezone()
    end = begin + timedelta(seconds=result.seconds)
    return f"{shown(result.model)}: {counts} in {_time(result.seconds)}, {begin:%H:%M:%S} to {end:%H:%M:%S}"


def _time(seconds: float) -> str:
    """`43 s`, `1 min 53 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_nightly(result: NightlyResult) -> None:
    """What the night did, with what became of each release."""
    console = out()
    for release in result.releases:
        print_release(release)
    for trouble in result.troubles:
        print_failure(console, trouble.failure, " ".join(filter(None, (trouble.model, trouble.region))))
    for waiting in result.waiting:
        console.print(f"waits: {shown(waiting)}", soft_wrap=True)
    console.print(shown(digest_line(result)), soft_wrap=True)
    if result.report:
        console.print(f"digest   {shown(result.report)}", soft_wrap=True)


def _table(result: ReleaseResult) -> Table:
    table = Table()
    for name in ("region", "target", "graph", "executed kernels", "decision"):
        table.add_column(name)
    beside = any(row.against for row in result.rows)
    for name in ("loss", "bounds", "limit", *(("vs champion",) if beside else ()), "vs FP32", "built in"):
        table.add_column(name, justify="right")
    table.add_column("served as")
    for row in result.rows:
        table.add_row(*_cells(row, beside))
    return table


def _cells(row: ReleaseRow, with_champion: bool) -> tuple[str | Text, ...]:
    loss = LossFigures.of(row)
    return (
        row.region,
        row.place or "-",
        _precision(row),
        shown(row.executed or "-"),
        coloured(_COLOURS[row.decision], row.decision),
        loss.said if loss else "-",
        loss.bounds if loss else "-",
        loss.allowed if loss else "-",
        *((_beside(row),) if with_champion else ()),
        _speed(row) or "-",
        build_words(row),
        shown(row.model_uri or "-"),
    )


def _print_lines(console: Terminal, row: ReleaseRow) -> None:
    """What a row of the table says, in lines that end between words; a name that is to be copied has one to itself."""
    where = (f"{row.region} {row.place or ''}".rstrip(), "bold")
    console.print(Text.assemble(where, ": ", coloured(_COLOURS[row.decision], row.decision)))
    for line in _lines(row):
        console.print(Text(f"  {line}", overflow="fold"))
    if row.model_uri:
        console.print(f"  {shown(row.model_uri)}", soft_wrap=True)


def _lines(row: ReleaseRow) -> Iterator[str]:
    speed = _speed(row)
    worked = build_words(row)
    built = f"built in {worked}" if row.rebuilt else worked
    parts = (precision_words(row), f"{speed} of FP32" if speed else "", built)
    yield ", ".join(shown(part) for part in parts if part not in ("", "-")) or "not built"
    loss, champion = LossFigures.of(row), ChampionFigures.of(row)
    if loss is not None:
        yield f"loss {loss.said}, {loss.bounds}, limit {loss.allowed}"
    if champion is not None:
        yield f"against the champion {champion.said}" + (f", {champion.bounds}" if champion.bounds else "")


def _speed(row: ReleaseRow) -> str:
    return "" if row.speedup is None else f"{row.speedup:.2f}x"


def _beside(row: ReleaseRow) -> str:
    figures = ChampionFigures.of(row)
    return "-" if figures is None else f"{figures.said}\n{figures.bounds}".strip()


def _precision(row: ReleaseRow) -> str:
    wider = row.asked not in (None, row.precision)
    return f"{row.precision} (not {row.asked})" if wider else row.precision or "-"


def _legend(result: ReleaseResult) -> str:
    confidences = sorted({f"{row.confidence:.0%}" for row in result.rows if row.confidence is not None})
    samples = sorted({row.samples for row in result.rows if row.samples is not None})
    loss = (
        f"loss: accuracy of FP32 less the engine's, on {' / '.join(map(str, samples))} gate samples; "
        if samples
        else ""
    )
    bounds = f"bounds: one-sided, {' / '.join(confidences)} each; " if confidences else ""
    beside = "vs champion: the same against what was served; " if any(row.against for row in result.rows) else ""
    return f"{loss}{bounds}{beside}vs FP32: same backend, same machine, interleaved"


def _print_reasons(console: Terminal, row: ReleaseRow) -> None:
    """Why a row has no engine that is served, or what is served instead."""
    where = f"{row.region} {row.place or ''}".rstrip()
    suspicious = suspicion(row)
    if suspicious is not None:
        console.print(coloured("yellow", f"{where}: {suspicious}"), soft_wrap=True)
    if row.failure is not None:
        print_failure(console, row.failure, where)
    elif row.model_uri is None:
        console.print(coloured(_COLOURS[row.decision], f"{where}: {row.decision}"), soft_wrap=True)
        for reason in row.reasons:
            console.print(f"  {shown(reason)}", soft_wrap=True)


def _print_drills(console: Terminal, drills: tuple[Drill, ...]) -> None:
    if not drills:
        return
    console.print("drills (deliberate: each of these must be refused)")
    for drill in drills:
        refused, not_refused = f"  refused by {drill.by}", f"  NOT refused ({drill.by})"
        verdict = coloured("green", refused) if drill.refused else coloured("red", not_refused)
        console.print(verdict, f": {shown(drill.attempt)}\n    {shown(drill.detail)}", sep="", soft_wrap=True)
