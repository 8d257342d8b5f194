"""What the gate would say, were its set like another one: for choices, which must not look at the gate set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from regiolect.contracts import LossUnit
from regiolect.evaluate.results import PairedResults
from regiolect.gate.losses import Evidence
from regiolect.gate.slices import limit_of, parts
from regiolect.policy import AccuracyLimit

# How often the gate's bound is meant to come out no larger than the one that is forecast.
ASSURANCE = 0.8


@dataclass(frozen=True)
class Forecast:
    """A loss as seen, and the bound that the gate stays within in four cases of five; both in `unit`.

    slice: one, as `device=phone`, whose own bound would not be within its limit, the worst of them; None if none is.
    """

    loss: float
    upper: float
    slice: str | None = None


def forecast(rule: AccuracyLimit, rows: PairedResults, samples: int) -> Forecast:
    """What the gate's bound on `samples` samples is in four cases of five no larger than, going by `rows`.

    The gate's bound on samples that go wrong as often as these, and room for chance on top: both sets are drawn, so the
    loss seen there differs from the one seen here, with the variance of a sample's loss over both their sizes. Without
    that room every second choice on the edge would fail at the gate, more where the best of several was taken.

    Counts are scaled to the gate's size and rounded to the careful side, so that a forecast within the limit is no luck
    of rounding; of scores the bound's width is. Slices are taken to be as frequent at the gate as here, and get no room
    for chance: they are small, and would never pass.

    Args:
        rule: limit, unit, confidence and slices.
        rows: results of another set than the gate's.
        samples: size of the gate set.

    Raises:
        InvalidResults: a score is outside [0, 1], or the loss is relative and the reference scores nothing.
    """
    evidence = Evidence.of(rows, rule.metric)
    losses = evidence.whole()
    upper = 100 * (losses.elsewhere(samples, rule.unit, rule.confidence) + _chance(rule.unit, rows, samples))
    return Forecast(100 * losses.loss(rule.unit), upper, _worst_slice(rule, rows, evidence, samples))


def _chance(unit: LossUnit, rows: PairedResults, samples: int) -> float:
    """How much more than here may be lost there, by chance alone; a fraction."""
    spread = float((rows.reference - rows.engine).std())
    whole = float(rows.reference.mean()) if unit is LossUnit.RELATIVE_PERCENT else 1.0
    return NormalDist().inv_cdf(ASSURANCE) * spread / whole * math.sqrt(1 / len(rows) + 1 / samples)


def _worst_slice(rule: AccuracyLimit, rows: PairedResults, evidence: Evidence, samples: int) -> str | None:
    if rule.slices is None:
        return None
    limit = limit_of(rule, rule.slices)
    worst: tuple[float, str | None] = (0.0, None)
    for column, value, losses in parts(rule.slices, rows, evidence):
        above = math.inf
        if losses is not None and (losses.reference > 0.0 or rule.unit is not LossUnit.RELATIVE_PERCENT):
            there = max(1, math.floor(losses.samples * samples / len(rows)))
            above = 100 * losses.elsewhere(there, rule.unit, rule.confidence) - limit
        if above > worst[0]:
            worst = above, f"{column}={value}"
    return worst[1]
