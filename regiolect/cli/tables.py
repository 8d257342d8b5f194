"""What a person sees in the terminal of plans, policies and engines; errors with a remedy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from regiolect.cli.terminal import Terminal, coloured, err, out, print_failure, print_fields, shown
from regiolect.contracts import UNITS, failure_of, place_of
from regiolect.errors import RegiolectError
from regiolect.errors.output import LAYOUT, printable, traceback_of
from regiolect.planning import Action, ModelPlan, engines_of, summary_of
from regiolect.policy import RegionPolicy
from regiolect.report.words import counted

if TYPE_CHECKING:
    from regiolect.cli.engine_facts import EngineView
    from regiolect.cli.policy_facts import FoundMistake, PolicyCheck, PolicyListing

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


def print_error(error: RegiolectError) -> None:
    """An error as three lines that a person can act on."""
    print_failure(err(), failure_of(error))


def print_unforeseen(error: Exception) -> None:
    """An error that is none of ours: where it was raised, then the three lines; no secrets in either."""
    sys.stderr.write(traceback_of(error))
    remedy = "if the cause is not on this machine, report it as a defect, with what stands above"
    expected = "the command to end, or to name what stopped it"
    print_failure(err(), failure_of(error).model_copy(update={"expected": expected, "remedy": remedy}))


def print_plans(plans: Sequence[ModelPlan]) -> None:
    """One line per engine: what would happen, and why; last, all of it in a line.

    Of several models, what is unchanged is only counted.
    """
    console = out()
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
                "-" if engine.target is None else place_of(engine.target, engine.arithmetic),
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


def print_policies(listing: PolicyListing) -> None:
    """One line per region; a policy that does not read is a line too."""
    table = Table(title=shown(listing.folder), title_justify="left")
    for name in ("region", "", "precision", "forbidden", "loss at most", "p99 at most", "tuned for", "targets"):
        table.add_column(name, overflow="fold")
    for each in listing.policies:
        policy = each.policy
        if policy is None:
            kind = each.failure.kind if each.failure is not None else "-"
            table.add_row(each.region, coloured("red", "unusable"), *["-"] * 5, kind)
            continue
        table.add_row(
            each.region,
            shown(policy.title),
            policy.precision,
            ", ".join(policy.forbidden) or "-",
            f"{policy.accuracy.limit:g} {UNITS[policy.accuracy.unit]} at {policy.accuracy.confidence:.0%}",
            f"{policy.latency.p99_ms:g} ms" if policy.latency else "-",
            policy.performance,
            ", ".join(f"{target.name} ({target.backend})" for target in policy.targets),
        )
    out().print(table)


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


def print_policy_check(check: PolicyCheck) -> None:
    """Every policy's verdict, every mistake with its file, line and key; last, how many of how many files.

    All of it is the command's answer and goes where answers go.
    """
    console = out()
    for policy in check.policies:
        for mistake in policy.mistakes:
            _print_mistake(console, mistake)
        if policy.digest is not None:
            console.print(f"{policy.region}: valid, {policy.precision}, {policy.digest}", soft_wrap=True)
        elif policy.waits_for:
            console.print(
                f"{policy.region}: waits for {' and '.join(policy.waits_for)}, which it extends", soft_wrap=True
            )
        if policy.notes:
            # A nightly in the hour that a change of the clocks skips or repeats.
            remedy = "state another time in nightly.cron, so that every night has it once"
            print_fields(console, {"note": "\n".join(policy.notes), "remedy": remedy}, "  ")
    notes = sum(bool(policy.notes) for policy in check.policies)
    console.print(_counted_mistakes(check) + (f", {notes} to note" if notes else ""))


def _print_mistake(console: Terminal, mistake: FoundMistake) -> None:
    console.print(coloured("red", mistake.kind))
    at = f"{mistake.place} {mistake.key}".rstrip()
    fields = {"at": at, "expected": mistake.expected, "found": mistake.found, "remedy": mistake.remedy}
    print_fields(console, fields, "  ")


def _counted_mistakes(check: PolicyCheck) -> str:
    """`9 files, no mistake`; `4 mistakes in 2 of 3 files`, and how many files wait for those to be mended."""
    found, unusable = [policy.mistakes for policy in check.policies], len(check.unusable)
    wrong, files = sum(map(bool, found)), counted(len(found), "file")
    if not unusable:
        return f"{files}, no mistake"
    waiting = unusable - wrong
    wait = f"; {counted(waiting, 'other')} {'waits' if waiting == 1 else 'wait'} for these" if waiting else ""
    return f"{counted(sum(map(len, found)), 'mistake')} in {wrong} of {files}{wait}"


def print_engine(view: EngineView) -> None:
    """All that is known of an engine, a fact a line."""
    console = out()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in view.facts:
        table.add_row(name, shown(value))
    console.print(table)
