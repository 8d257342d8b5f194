"""Exit codes of commands that judge: what 0, 1 and 3 stand for."""

from __future__ import annotations

from collections.abc import Sequence

from regiolect.contracts import ReleaseResult
from regiolect.planning import ModelPlan, engines_of, has_work


def exit_code(result: ReleaseResult) -> int:
    """0 when every engine is approved or waits for its device, all approved ones are served, and every drill held."""
    return 0 if result.complete else 1


def plan_exit_code(plans: Sequence[ModelPlan], tell_work: bool) -> int:
    """3 when there is work and it is asked for; else 1 when something is refused or cannot be told, or 0."""
    engines = engines_of(plans)
    if tell_work and has_work(engines):
        return 3
    unknown = any(each.failure or (each.plan and each.plan.registry) for each in plans)
    return 1 if unknown or any(engine.action == "refuse" for engine in engines) else 0
