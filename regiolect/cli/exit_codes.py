"""With which code each command ends: 0 where all is well, and what the others stand for.

An error that stops a command has its own, `RegiolectError.exit_code`; an interruption ends with 130 or 143.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regiolect.contracts import AuditResult, NightlyResult, ReleaseResult
    from regiolect.doctor.finding import Finding
    from regiolect.planning import ModelPlan
    from regiolect.policy_review import PolicyReview
    from regiolect.servers.local import Status
    from regiolect.tune.compare import DeviceComparison
    from regiolect.tune.result import TuningResult


def exit_code(result: ReleaseResult) -> int:
    """0 when every engine is approved or waits for its device, all approved ones are served, and every drill held."""
    return 0 if result.complete else 1


def nightly_exit_code(result: NightlyResult) -> int:
    """1 when anything troubled the night, or a release of it is not complete."""
    return 1 if result.troubles or any(map(exit_code, result.releases)) else 0


def plan_exit_code(plans: Sequence[ModelPlan], tell_work: bool) -> int:
    """3 when there is work and it is asked for; else 1 when something is refused or cannot be told, or 0."""
    from regiolect.planning import engines_of, has_work

    engines = engines_of(plans)
    if tell_work and has_work(engines):
        return 3
    unknown = any(each.failure or (each.plan and each.plan.registry) for each in plans)
    return 1 if unknown or any(engine.action == "refuse" for engine in engines) else 0


def tuning_exit_code(result: TuningResult) -> int:
    """1 when an engine that was asked for is not tuned."""
    return 0 if result.complete else 1


def comparison_exit_code(comparison: DeviceComparison) -> int:
    """1 when the second tuning is slower than the first."""
    return 1 if comparison.slower is not None else 0


def audit_exit_code(result: AuditResult) -> int:
    """1 when anything speaks against anything that is served."""
    return 0 if result.clean else 1


def doctor_exit_code(findings: Iterable[Finding]) -> int:
    """1 when something is wrong; what is to note alone is well."""
    return 1 if any(finding.verdict == "wrong" for finding in findings) else 0


def servers_exit_code(servers: Iterable[Status]) -> int:
    """1 when a server has a problem."""
    return 0 if all(server.problem is None for server in servers) else 1


def review_exit_code(review: PolicyReview) -> int:
    """1 when two folders of policies do not say the same."""
    return 1 if review.regions else 0


def listing_exit_code(unusable: Collection[str]) -> int:
    """1 when a policy that is listed cannot be used."""
    return 1 if unusable else 0


def validation_exit_code(unusable: Collection[str]) -> int:
    """2 when a policy that is validated cannot be used: the request was wrong."""
    return 2 if unusable else 0
