"""What the gate would say, were its set like another one: for choices, which must not look at the gate set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regiolect.contracts import LossUnit
from regiolect.evaluate.results import PairedResults
from regiolect.gate.losses import Evidence
from regiolect.gate.slices import limit_of, parts
from regiolect.policy import AccuracyLimit


@dataclass(frozen=True)
class Forecast:
    """A loss as seen, and the upper bound that as many samples as the gate has would give it; both in `unit`.

    slice: one, as `device=phone`, whose own bound would not be within its limit, the worst of them; None if none is.
    """

    loss: float
    upper: float
    slice: str | None = None


def forecast(rule: AccuracyLimit, rows: PairedResults, samples: int) -> Forecast:
    """The gate's bound on `samples` samples that go wrong as often as `rows` do.

    Counts are scaled to the gate's size and rounded to the careful side, so that a forecast within the limit is no luck
    of rounding; of scores the bound's width is. It is no promise: both sets are drawn by chance. Slices are taken to be
    as frequent at the gate as here.

    Args:
        rule: limit, unit, confidence and slices.
        rows: results of another set than the gate's.
        samples: size of the gate set.

    Raises:
        InvalidResults: a score is outside [0, 1], or the loss is relative and the reference scores nothing.
    """
    evidence = Evidence.of(rows, rule.metric)
    losses = evidence.whole()
    upper = 100 * losses.elsewhere(samples, rule.unit, rule.confidence)
    return Forecast(100 * losses.loss(rule.unit), upper, _worst_slice(rule, rows, evidence, samples))


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
