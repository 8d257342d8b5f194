"""What a person sees in the terminal: tables at the end of a run, errors with a remedy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from regiolect.cli.exit_codes import exit_code, listing_exit_code, nightly_exit_code, validation_exit_code
from regiolect.cli.terminal import Terminal, coloured, print_failure, print_fields, shown
from regiolect.contracts import (
    UNITS,
    Decision,
    Drill,
    NightlyResult,
    ReleaseResult,
    ReleaseRow,
    failure_of,
    place_of,
)
from regiolect.errors import PolicyError, RegiolectError
from regiolect.errors.output import LAYOUT, printable, traceback_of
from regiolect.planning import Action, ModelPlan, PlannedEngine, engines_of, summary_of
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.report.digest import digest_line
from regiolect.report.words import ChampionFigures, build_words, suspicion

if TYPE_CHECKING:
    from regiolect.cli.engine_facts import EngineView

COLOURS: Mapping[Decision, str] = {
    Decision.APPROVED: "green",
    Decision.FAILED: "red",
    Decision.INCONCLUSIVE: "yellow",
    Decision.NOT_ATTESTED: "cyan",
    Decision.REFUSED: "red",
}

_ACTIONS: Mapping[Action, str] = {
    "build": "yellow",
    "rebuild": "yellow",
    "promote": "yellow",
    "reuse": "green",
    "carry": "green",
    "refuse": "red",
    "retire": "magenta",
    "drop": "magenta",
    "skip": "dim",
}


def _out() -> Terminal:
    # Piped output gets room for whole rows instead of a table folded to 80 columns.
    return Terminal(width=None if sys.stdout.isatty() else 200)


def _err() -> Terminal:
    return Terminal(stderr=True, soft_wrap=True)


def print_error(error: RegiolectError) -> None:
    """An error as three lines that a person can act on."""
    print_failure(_err(), failure_of(error))


def print_unforeseen(error: Exception) -> None:
    """An error that is none of ours: where it was raised, then the three lines; no secrets in either."""
    sys.stderr.write(traceback_of(error))
    remedy = "if the cause is not on this machine, report it as a defect, with what stands above"
    expected = "the command to end, or to name what stopped it"
    print_failure(_err(), failure_of(error).model_copy(update={"expected": expected, "remedy": remedy}))


def print_release(result: ReleaseResult) -> int:
    """The table of a release, its drills, and where to look next. Returns the exit code."""
    console = _out()
    table = Table(
        title=f"{shown(result.model)}: {len(result.rows)} engines in {result.seconds:.0f} s", title_justify="left"
    )
    for name in ("region", "target", "graph", "executed kernels", "decision"):
        table.add_column(name, overflow="fold")
    beside = any(row.against for row in result.rows)
    for name in ("loss", "bounds", "limit", *(("vs champion",) if beside else ()), "vs FP32", "built in"):
        table.add_column(name, justify="right")
    table.add_column("served as", overflow="fold")
    for row in result.rows:
        table.add_row(*_cells(row, beside))
    console.print(table)
    console.print(_legend(result), style="dim", soft_wrap=True)
    if result.note:
        console.print(shown(result.note), style="dim", soft_wrap=True)
    for row in result.rows:
        _print_reasons(console, row)
    for reason in result.left_out:
        console.print(coloured("magenta", "left out"), shown(reason), soft_wrap=True)
    _print_drills(console, result.drills)
    if result.report:
        console.print(f"report   {shown(result.report)}", soft_wrap=True)
    console.print(f"registry {shown(result.tracking_uri)}", soft_wrap=True)
    return exit_code(result)


def _print_reasons(console: Terminal, row: ReleaseRow) -> None:
    """Why a row has no engine that is served, or what is served instead."""
    where = row.region if row.target is None else f"{row.region} {_place(row)}"
    suspicious = suspicion(row)
    if suspicious is not None:
        console.print(coloured("yellow", f"{where}: {suspicious}"), soft_wrap=True)
    if row.failure is not None:
        print_failure(console, row.failure, where)
    elif row.model_uri is None:
        console.print(coloured(COLOURS[row.decision], f"{where}: {row.decision}"), soft_wrap=True)
        for reason in row.reasons:
            console.print(f"  {shown(reason)}", soft_wrap=True)


def _cells(row: ReleaseRow, with_champion: bool) -> tuple[str | Text, ...]:
    unit = UNITS[row.unit] if row.unit else ""
    measured = row.loss is not None and row.loss_lower is not None and row.loss_upper is not None
    return (
        row.region,
        _place(row),
        _precision(row),
        shown(row.executed or "-"),
        coloured(COLOURS[row.decision], row.decision),
        f"{row.loss:+.2f} {unit}" if measured else "-",
        f"{row.loss_lower:+.2f} .. {row.loss_upper:+.2f}" if measured else "-",
        f"{row.threshold:.2f} {unit}" if row.threshold is not None else "-",
        *((_beside(row),) if with_champion else ()),
        f"{row.speedup:.2f}x" if row.speedup is not None else "-",
        build_words(row),
        shown(row.model_uri or "-"),
    )


def _beside(row: ReleaseRow) -> str:
    figures = ChampionFigures.of(row)
    return "-" if figures is None else f"{figures.said}\n{figures.bounds}".strip()


def _place(row: ReleaseRow | PlannedEngine) -> str:
    return "-" if row.target is None else place_of(row.target, row.arithmetic)


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


def _print_drills(console: Terminal, drills: tuple[Drill, ...]) -> None:
    if not drills:
        return
    console.print("drills (deliberate: each of these must be refused)")
    for drill in drills:
        refused, not_refused = f"  refused by {drill.by}", f"  NOT refused ({drill.by})"
        verdict = coloured("green", refused) if drill.refused else coloured("red", not_refused)
        console.print(verdict, f": {shown(drill.attempt)}\n    {shown(drill.detail)}", sep="", soft_wrap=True)


def print_nightly(result: NightlyResult) -> int:
    """What the night did, with the table of each release. Returns the exit code."""
    console = _out()
    for release in result.releases:
        print_release(release)
    for trouble in result.troubles:
        print_failure(console, trouble.failure, " ".join(filter(None, (trouble.model, trouble.region))))
    for waiting in result.waiting:
        console.print(f"waits: {shown(waiting)}", soft_wrap=True)
    console.print(shown(digest_line(result)), soft_wrap=True)
    if result.report:
        console.print(f"digest   {shown(result.report)}", soft_wrap=True)
    return nightly_exit_code(result)


def print_plans(plans: Sequence[ModelPlan]) -> None:
    """One line per engine: what would happen, and why; last, all of it in a line.

    Of several models, what is unchanged is only counted.
    """
    console = _out()
    several = len(plans) > 1
    table = Table(title=", ".join(shown(each.plan.name) for each in plans if each.plan) if not several else None)
    table.title_justify = "left"
    for name in (*(("model",) if several else ()), "region", "target", "precision", "action", "why"):
        table.add_column(name, overflow="fold")
    for each in plans:
        for engine in each.plan.engines if each.plan else ():
            if several and engine.action == "reuse":
                continue
            table.add_row(
                *([each.plan.name] if several and each.plan else []),
                engine.region,
                _place(engine),
                engine.precision or "-",
                coloured(_ACTIONS[engine.action], engine.action),
                shown(engine.reason),
            )
    if table.row_count:
        console.print(table)
    for each in plans:
        if each.failure is not None:
            print_failure(console, each.failure, each.address)
        for engine in each.plan.engines if each.plan else ():
            if engine.failure is not None:
                print_failure(console, engine.failure, engine.place)
        if each.plan is not None and each.plan.registry is not None:
            print_failure(console, each.plan.registry, f"{each.plan.name}: what is to be promoted is not known")
    failed = sum(each.failure is not None for each in plans)
    failures = f"; {failed} of {len(plans)} models cannot be planned" if failed else ""
    of = f"{len(plans)} models: " if several else ""
    console.print(f"{of}{summary_of(engines_of(plans))}{failures}", soft_wrap=True)


def print_policies(book: PolicyBook) -> int:
    """One line per region; a policy that does not read is a line too. Returns the exit code."""
    console = _out()
    table = Table(title=shown(str(book.folder)), title_justify="left")
    for name in ("region", "", "precision", "forbidden", "loss at most", "p99 at most", "tuned for", "targets"):
        table.add_column(name, overflow="fold")
    unusable = []
    for region in book.regions():
        try:
            policy = book.load(region)
        except RegiolectError as error:
            unusable.append(region)
            table.add_row(region, coloured("red", "unusable"), *["-"] * 5, type(error).__name__)
            continue
        table.add_row(
            region,
            shown(policy.title),
            policy.precision,
            ", ".join(policy.forbidden) or "-",
            f"{policy.accuracy.limit:g} {UNITS[policy.accuracy.unit]} at {policy.accuracy.confidence:.0%}",
            f"{policy.latency.p99_ms:g} ms" if policy.latency else "-",
            policy.performance,
            ", ".join(f"{target.name} ({target.backend})" for target in policy.targets),
        )
    console.print(table)
    return listing_exit_code(unusable)


def print_policy(policy: RegionPolicy) -> None:
    """A resolved policy, as YAML that could be saved as a file of its own."""
    import yaml

    fields = policy.model_dump(mode="json", exclude_none=True, exclude={"extends"})
    print_to = sys.stdout.write
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)
    if printable(text, LAYOUT) != text:
        # In quotes, and with escapes of YAML's own.
        text = yaml.safe_dump(fields, sort_keys=False, width=100)
    print_to(text)
    print_to(f"# digest {policy.digest()}" + (f", extends {policy.extends}" if policy.extends else "") + "\n")


def print_policy_check(book: PolicyBook) -> int:
    """Every policy's verdict, and every mistake with its file, line and key. Returns 0, or 2 if any is unusable."""
    unusable, console = list[str](), _err()
    for region in book.regions():
        mistakes = book.mistakes(region)
        for mistake in mistakes:
            console.print(coloured("red", mistake.error.__name__))
            at = f"{mistake.place} {mistake.key}".rstrip()
            fields = {"at": at, "expected": mistake.expected, "found": mistake.found, "remedy": mistake.mend}
            print_fields(console, fields, "  ")
        if mistakes:
            unusable.append(region)
            continue
        try:
            policy = book.load(region)
        except PolicyError:
            unusable.append(region)
            _out().print(f"{region}: waits for {' and '.join(book.lineage(region)[1:])}, which it extends")
        else:
            _out().print(f"{region}: valid, {policy.precision}, {policy.digest()}", soft_wrap=True)
    return validation_exit_code(unusable)


def print_engine(view: EngineView) -> None:
    """All that is known of an engine, a fact a line."""
    console = _out()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in view.facts:
        table.add_row(name, shown(value))
    console.print(table)
