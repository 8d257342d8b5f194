"""`regiolect audit`: is everything that consumers can load still what today's policies and keys allow?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.exit_codes import audit_exit_code
from regiolect.cli.options import STDOUT, JsonFile, Policies, require_writable, settings_with, tell

if TYPE_CHECKING:
    from regiolect.cli.terminal import Terminal
    from regiolect.contracts import AuditedEngine, AuditedVersion, AuditResult


def audit(
    names: Annotated[list[str] | None, typer.Argument(help="Registered models, MODEL-REGION; default: all.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also versions that no alias points at: they can be loaded by number.")
    ] = False,
    json_file: JsonFile = None,
    policies: Policies = None,
) -> None:
    """Hold what consumers can load against its own bytes, results and signatures, and today's policies and keys.

    Exit code 1 if anything speaks against anything. Changes nothing.
    """
    from regiolect.audit import audit as audited
    from regiolect.cli.terminal import Terminal
    from regiolect.policy import PolicyBook
    from regiolect.progress import watching
    from regiolect.registry import Registry

    require_writable(json_file)
    settings = settings_with(policies)
    console = Terminal(soft_wrap=True, quiet=json_file == STDOUT)
    with watching(verbose=False):
        registry = Registry.of(settings)
        result = audited(
            registry,
            PolicyBook(settings.policies),
            names or (),
            stores=settings.find_store,
            everything=everything,
            progress=lambda version: _print(console, version),
        )
    tell(result, json_file, lambda: _print_summary(console, result))
    raise typer.Exit(audit_exit_code(result))


def _print(console: Terminal, version: AuditedVersion) -> None:
    from regiolect.cli.terminal import coloured, print_failure, shown

    findings = version.all_findings()
    verdict = coloured("red", "wrong") if findings else coloured("green", "ok   ")
    name = f"models:/{version.name}/{version.version}"
    signers = ", ".join(dict.fromkeys(engine.signed_by or "nobody who counts" for engine in version.engines))
    pointing = ", ".join(version.aliases) or "no alias"
    console.print(
        verdict,
        shown(f"{name} ({pointing})  {'; '.join(map(_told, version.engines))}")
        + (f"  signed by {shown(signers)}" if signers else ""),
    )
    if version.promoted_by is not None:
        console.print(f"      promoted by a person, {shown(version.promoted_by)}")
    for place, failure in findings:
        print_failure(console, failure, place or "", indent="      ")


def _told(engine: AuditedEngine) -> str:
    older = ", older than classes: its processor's flags tell the class" if engine.told_by_flags else ""
    return f"{engine.place} {engine.precision}{older}{', tuned' if engine.tuned else ''}"


def _print_summary(console: Terminal, result: AuditResult) -> None:
    from regiolect.cli.terminal import print_failure, shown

    for failure in result.findings:
        print_failure(console, failure)
    size = sum(version.bytes for version in result.versions) / 1e6
    console.print(
        f"{shown(result.summary())}; {size:,.1f} MB hashed in {result.seconds:.1f} s; registry {shown(result.registry)}"
    )
