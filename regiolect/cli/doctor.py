"""`regiolect doctor`: what is missing or misconfigured, and how to mend it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.exit_codes import doctor_exit_code
from regiolect.cli.options import STDOUT, JsonFile, Policies, named, names_in, require_writable, tell, use_policies

if TYPE_CHECKING:
    from regiolect.cli.terminal import Terminal
    from regiolect.doctor.finding import Finding

_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


def doctor(
    regions: Annotated[
        str,
        typer.Option(
            "--regions", "-r", help="Stores of these regions only, by commas; shared is then only read.", callback=named
        ),
    ] = "",
    json_file: JsonFile = None,
    policies: Policies = None,
) -> None:
    """Say what is missing or misconfigured on this machine and at the servers it uses, and how to mend it.

    Exit code 1 if something is wrong. Changes nothing but one small record in each store.
    """
    from regiolect.cli.terminal import Terminal
    from regiolect.doctor.examination import diagnosis, examine
    from regiolect.progress import watching

    require_writable(json_file)
    use_policies(policies)
    console = Terminal(soft_wrap=True, quiet=json_file == STDOUT)
    begin, findings = time.monotonic(), []
    with watching(verbose=False):
        for finding in examine(names_in(regions)):
            findings.append(finding)
            _print(console, finding)
    counts = Counter(finding.verdict for finding in findings)
    seconds = time.monotonic() - begin
    summary = f"{counts['wrong']} wrong, {counts['note']} to note, {counts['ok']} well, in {seconds:.1f} s"
    tell(diagnosis(findings), json_file, lambda: console.print(summary))
    raise typer.Exit(doctor_exit_code(findings))


def _print(console: Terminal, finding: Finding) -> None:
    from regiolect.cli.terminal import coloured, print_fields, shown

    colour = _COLOURS[finding.verdict]
    detail = "" if finding.verdict == "wrong" else shown(finding.found)
    console.print(coloured(colour, f"{finding.verdict:<5}"), f"{shown(finding.name):<26} {detail}".rstrip())
    if finding.verdict == "wrong":
        fields = {"expected": finding.expected, "found": finding.found, "remedy": finding.remedy}
        print_fields(console, fields, "        ")
    elif finding.remedy:
        console.print(f"        remedy    {shown(finding.remedy)}", style="dim")
