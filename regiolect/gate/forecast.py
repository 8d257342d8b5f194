"""What the gate would say, were its set like another one: for choices, which must not look at the gate set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regiolect.contracts import LossUnit
from regiolect.evaluate.results import PairedResults
from regiolect.gate.bounds import loss_bounds, relative_loss_bounds
from regiolect.gate.tally import require_right_or_wrong, tally
from regiolect.policy import AccuracyLimit


@dataclass(frozen=True)
class Forecast:
    """A loss as seen, and the upper bound that as many samples as the gate has would give it; both in `unit`."""

    loss: float
    upper: float


def forecast(rule: AccuracyLimit, rows: PairedResults, samples: int) -> Forecast:
    """The gate's bound on `samples` samples that go wrong as often as `rows` do.

    Counts are scaled to the gate's size and rounded to the careful side, so that a forecast within the limit is no luck
    of rounding. It is no promise: both sets are drawn by chance.

    Args:
        rule: limit, unit and confidence.
        rows: right/wrong scores of another set than the gate's.
        samples: size of the gate set.

    Raises:
        InvalidResults: a score is neither 0 nor 1, or a relative loss has no right answer to relate to.
    """
    require_right_or_wrong(rows, rule.metric)
    seen = tally(rows)
    scale = samples / seen.samples
    lost = min(math.ceil(seen.lost * scale - 1e-9), samples)
    gained = min(math.floor(seen.gained * scale + 1e-9), samples - lost)
    if rule.unit is LossUnit.RELATIVE_PERCENT:
        right = min(max(math.floor(seen.right * scale + 1e-9), lost), samples - gained)
        _, upper = relative_loss_bounds(lost, gained, right, samples, rule.confidence)
    else:
        _, upper = loss_bounds(lost, gained, samples, rule.confidence)
    return Forecast(loss=100 * seen.loss(rule.unit), upper=100 * upper)
