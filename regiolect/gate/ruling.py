"""What one rule of the policy says, and how figures are written beside their limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regiolect.contracts import Decision, GateRule, LossUnit, Verdict

SEVERITY: tuple[Verdict, ...] = (Decision.APPROVED, Decision.INCONCLUSIVE, Decision.FAILED)
UNITS: Mapping[LossUnit, str] = {
    LossUnit.ABSOLUTE_POINTS: "points",
    LossUnit.RELATIVE_PERCENT: "% of the reference's score",
}


@dataclass(frozen=True)
class Ruling:
    """One rule's verdict and reason; of an inconclusive one, how large the gate set should be, if that would help."""

    rule: GateRule
    verdict: Verdict
    reason: str
    samples_needed: int | None = None


def digits_for(limit: float, *figures: float) -> int:
    """Decimals that tell every figure from the limit; from 2 to 6."""
    for digits in range(2, 6):
        if all(f"{figure:.{digits}f}" != f"{limit:.{digits}f}" for figure in figures if figure != limit):
            return digits
    return 6
