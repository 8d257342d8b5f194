"""An audit as a table."""

from __future__ import annotations

from regiolect.contracts import AuditedVersion, AuditResult, Failure


def rows(result: AuditResult) -> list[dict[str, str]]:
    """A row per finding, and one per version that nothing speaks against; what concerns the whole audit comes first."""
    whole = [_row("registry", "", finding) for finding in result.findings]
    return whole + [row for version in result.versions for row in _of(version)]


def _of(version: AuditedVersion) -> list[dict[str, str]]:
    name, pointing = f"models:/{version.name}/{version.version}", ", ".join(version.aliases) or "no alias"
    if version.promoted_by is not None:
        pointing = f"{pointing} (promoted by {version.promoted_by})"
    findings = version.all_findings()
    if not findings:
        return [_row(name, pointing, None)]
    return [_row(name, pointing, failure, target) for target, failure in findings]


def _row(engine: str, pointing: str, failure: Failure | None, target: str | None = None) -> dict[str, str]:
    details = {"expected": "", "found": "", "remedy": ""} if failure is None else failure.model_dump(exclude={"kind"})
    finding = "nothing" if failure is None else failure.kind
    return {"version": engine, "aliases": pointing, "target": target or "", "finding": finding, **details}
