"""What today's policies say of an engine that was approved earlier."""

from __future__ import annotations

from datetime import datetime

from regiolect.audit.evidence import judged_class
from regiolect.contracts import ApprovedEngine, Arithmetic, CalibrationTable, Decision, Target
from regiolect.errors import CalibrationTooOld, NoLongerAllowed
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.policy import RegionPolicy
from regiolect.provenance import too_old


def require_allowed(approved: ApprovedEngine, policy: RegionPolicy, rows: PairedResults) -> None:
    """Raises NoLongerAllowed unless today's policy would approve the engine on the evidence that it was approved on.

    That is asked of the gate, by the region's policy as it is now: its limits, its confidence, its forbidden types.

    Raises:
        GateRefused, InvalidResults: the evidence does not serve to ask.
    """
    request = approved.engine.request
    judged, given = judged_class(approved), request.target
    if not any(_is_for(target, given, judged) for target in policy.targets):
        named = ", ".join(f"{target.name}, {target.described()}" for target in policy.targets)
        # What was stated of classes as it was built does not say which one it is of.
        built = given.model_copy(update={"arithmetic": () if judged is None else (judged,)})
        raise NoLongerAllowed(
            expected=f"an engine for a target of region {policy.region!r}: {named}",
            found=f"one for {built.name}, {built.described()}",
            remedy="release the region again, which leaves this engine out",
        )
    now = decide_gate(approved.engine, policy, approved.attestation, approved.evaluation, rows)
    if now.verdict is not Decision.APPROVED:
        raise NoLongerAllowed(
            expected=f"an engine that today's policy of region {policy.region!r} approves",
            found=f"{now.verdict}: {'; '.join(now.reasons)}",
            remedy="release the region again: what the policy no longer allows is repaired, or refused and not served",
        )


def _is_for(target: Target, built: Target, judged: Arithmetic | None) -> bool:
    """Whether a policy's target takes an engine that was built for a target, and judged in a class of arithmetic."""
    same = (target.name, target.backend, target.options) == (built.name, built.backend, built.options)
    return same and (judged is None or not target.arithmetic or judged in target.arithmetic)


def require_recent(table: CalibrationTable, policy: RegionPolicy, now: datetime) -> None:
    """Raises CalibrationTooOld if a calibration is older than today's policy allows."""
    reason = too_old(table.seal, policy.calibration.max_age_days, now)
    if reason is not None:
        raise CalibrationTooOld(
            expected=f"a calibration of region {policy.region!r} as recent as its policy asks for",
            found=f"one of {table.seal.made:%Y-%m-%d %H:%M} UTC: {reason}",
            remedy="release the region again, which calibrates anew",
        )
