"""The ruling on the loss of accuracy over the whole gate set."""

from __future__ import annotations

from dataclasses import dataclass

from regiolect.contracts import Decision, LossUnit, Verdict
from regiolect.gate.losses import Losses, fewest
from regiolect.gate.ruling import UNITS, Ruling, digits_for
from regiolect.policy import AccuracyLimit

_ROUGHLY = 0.01  # slack of a bound that need not be told to the last digit


@dataclass(frozen=True)
class Bounded:
    """A loss with its bounds and limit, in the policy's unit."""

    loss: float
    lower: float | None
    upper: float
    limit: float

    @classmethod
    def of(cls, losses: Losses, rule: AccuracyLimit, limit: float) -> Bounded:
        """The figures of these losses."""
        upper = 100 * losses.upper(rule.unit, rule.confidence)
        return cls(100 * losses.loss(rule.unit), 100 * losses.lower(rule.unit, rule.confidence), upper, limit)

    @classmethod
    def quickly(cls, losses: Losses, rule: AccuracyLimit, limit: float) -> Bounded:
        """The same, for one of many: where a bound that is a little too large is within the limit, that one alone."""
        upper = 100 * losses.upper(rule.unit, rule.confidence, slack=_ROUGHLY)
        if upper <= limit:
            return cls(100 * losses.loss(rule.unit), None, upper, limit)
        return cls.of(losses, rule, limit)

    @property
    def verdict(self) -> Verdict:
        """Approved if the loss is surely within the limit, failed if it is surely above."""
        if self.upper <= self.limit:
            return Decision.APPROVED
        return Decision.FAILED if self.lower is not None and self.lower > self.limit else Decision.INCONCLUSIVE

    def told(self, rule: AccuracyLimit, losses: Losses) -> str:
        """`loss 0.05 points (6 answers lost, 4 gained of 4,000), at most 0.12 at 95 %, limit 0.5`."""
        digits = digits_for(self.limit, self.upper, *([] if self.lower is None else [self.lower]))
        bound = f"at most {self.upper:.{digits}f}"
        if self.verdict is Decision.FAILED:
            bound = f"at least {self.lower:.{digits}f}"
        measured = f"loss {self.loss:.{digits}f} {UNITS[rule.unit]} ({losses.told()}), "
        return f"{measured}{bound} at {100 * rule.confidence:g} %, limit {self.limit:g}"


def accuracy_ruling(rule: AccuracyLimit, losses: Losses, bounded: Bounded) -> Ruling:
    """What the limit says of the loss; an inconclusive answer tells how many samples it would take."""
    reason = f"{rule.metric}: {bounded.told(rule, losses)}"
    if bounded.verdict is not Decision.INCONCLUSIVE:
        return Ruling("accuracy", bounded.verdict, reason)
    needed, why = more_samples(rule, losses, bounded.limit)
    return Ruling("accuracy", Decision.INCONCLUSIVE, f"{reason}, so inconclusive{why}", needed)


def least_ruling(rule: AccuracyLimit, losses: Losses) -> tuple[float | None, list[Ruling]]:
    """Lower bound of the engine's own score, and what the policy's floor says of it; nothing where it states none.

    What is no worse than its reference may still be no good: a network at chance level loses nothing in INT8.
    """
    if rule.least is None:
        return None, []
    lower, upper = losses.score_bounds(rule.confidence)
    verdict: Verdict = Decision.INCONCLUSIVE
    bound = f"at least {lower:.4f}"
    if lower >= rule.least:
        verdict = Decision.APPROVED
    elif upper < rule.least:
        verdict, bound = Decision.FAILED, f"at most {upper:.4f}"
    reason = (
        f"least: scores {losses.engine_score:.4f} on {losses.samples:,} samples, {bound} at "
        f"{100 * rule.confidence:g} %, the policy asks for at least {rule.least:g}"
    )
    held = ", so inconclusive" if verdict is Decision.INCONCLUSIVE else ""
    return lower, [Ruling("least", verdict, f"{reason}{held}")]


def more_samples(rule: AccuracyLimit, losses: Losses, limit: float) -> tuple[int | None, str]:
    """About how many samples would approve, None if no number would, and that in words."""
    sure, have = f"{100 * rule.confidence:g} %", losses.samples
    needed = losses.needed(limit / 100, rule.unit, rule.confidence)
    least = fewest(limit / 100, rule.unit, losses, rule.confidence)
    why = ""
    if least > have:
        at_least = "about" if rule.unit is LossUnit.RELATIVE_PERCENT else "at least"
        why = f"; {limit:g} {UNITS[rule.unit]} at {sure} needs {at_least} {least:,} samples, have {have:,}"
    if needed is None:
        why += "; at the loss seen no number of samples would approve"
    elif losses.differ:
        why += f"; about {needed:,} samples are needed at the disagreement seen, have {have:,}"
    return needed, why
