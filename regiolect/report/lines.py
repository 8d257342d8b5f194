"""What a run tells of a region: one line when it is done."""

from __future__ import annotations

import logging

from regiolect.contracts import UNITS, Decision, RegionOutcome
from regiolect.progress import logger
from regiolect.tune.words import line


def done(outcome: RegionOutcome, count: int, of: int) -> None:
    """A region has its answer: one line, with units and the limit beside the figures, and how many have one now."""
    decision = outcome.gate
    if decision is not None and decision.verdict is not Decision.APPROVED:
        detail = decision.reasons[0]
    elif decision is not None:
        unit = UNITS[decision.unit]
        detail = (
            f"loss {decision.loss:z.2f} {unit}, at most {decision.loss_upper:z.2f} at {decision.confidence:.0%}, "
            f"limit {decision.threshold:.2f}"
        )
    elif outcome.failure is not None:
        detail = f"{outcome.failure.kind}: {outcome.failure.found}"
    else:
        detail = outcome.reasons[0]
    _log(outcome, str(outcome.decision), detail, f"{count} of {of}: ")


def tuned(outcome: RegionOutcome) -> None:
    """A region's engine was tuned, or was not: one line."""
    if outcome.tuning is not None:
        _log(outcome, "tuned", line(outcome.tuning))
    elif outcome.failure is not None:
        _log(outcome, "not tuned", f"{outcome.failure.kind}: {outcome.failure.found}")


def _log(outcome: RegionOutcome, what: str, detail: str, head: str = "") -> None:
    level = logging.INFO if outcome.decision in (Decision.APPROVED, Decision.NOT_ATTESTED) else logging.WARNING
    logger.log(
        level,
        "%s%-4s %-8s %s (%s; %.1f s)",
        head,
        outcome.region,
        outcome.place,
        what,
        detail,
        outcome.seconds,
    )
