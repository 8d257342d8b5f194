"""A paired loss as seen and as bounded, of right/wrong answers and of scores alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import LossUnit
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults, require_own_scores
from regiolect.gate.bounds import SLACK, minimum_samples
from regiolect.gate.score_bounds import by_digest, samples_for, score_loss_lower, score_loss_upper, width_elsewhere
from regiolect.gate.tally import Tally


class Losses(Protocol):
    """What the gate asks of paired results. Losses are fractions; `Tally` and `Scores` say how each is found."""

    @property
    def samples(self) -> int: ...

    @property
    def reference(self) -> float: ...

    @property
    def differ(self) -> bool: ...

    def loss(self, unit: LossUnit) -> float: ...

    def upper(self, unit: LossUnit, confidence: float, *, slack: float = SLACK) -> float: ...

    def lower(self, unit: LossUnit, confidence: float) -> float: ...

    def score_bounds(self, confidence: float) -> tuple[float, float]: ...

    @property
    def engine_score(self) -> float: ...

    def needed(self, limit: float, unit: LossUnit, confidence: float) -> int | None: ...

    def elsewhere(self, samples: int, unit: LossUnit, confidence: float) -> float: ...

    def told(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores in [0, 1] of shape (n,), in the order of bets."""

    given: NDArray[np.float64]
    engine: NDArray[np.float64]

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.given)

    @property
    def reference(self) -> float:
        """The reference's mean score."""
        return float(self.given.mean())

    @property
    def differ(self) -> bool:
        """Whether any sample has two different scores."""
        return bool((self.given != self.engine).any())

    def loss(self, unit: LossUnit) -> float:
        """The loss as seen, a fraction: of the most that can be scored, or of what the reference scores."""
        lost = float((self.given - self.engine).sum())
        return lost / float(self.given.sum() if unit is LossUnit.RELATIVE_PERCENT else self.samples)

    def upper(self, unit: LossUnit, confidence: float, *, slack: float = SLACK) -> float:
        """Upper bound of the loss, a fraction; at most about `slack` of its width above the least one."""
        return score_loss_upper(self.given, self.engine, unit, confidence, slack=slack)

    def lower(self, unit: LossUnit, confidence: float) -> float:
        """Lower bound of the loss, a fraction."""
        return score_loss_lower(self.given, self.engine, unit, confidence)

    @property
    def engine_score(self) -> float:
        """The engine's mean score."""
        return float(self.engine.mean())

    def score_bounds(self, confidence: float) -> tuple[float, float]:
        """Lower and upper bound of the engine's mean score, each one-sided: what it loses against all that can be
        scored is a paired loss as well."""
        full, absolute = np.ones_like(self.engine), LossUnit.ABSOLUTE_POINTS
        return (
            1.0 - score_loss_upper(full, self.engine, absolute, confidence),
            1.0 - score_loss_lower(full, self.engine, absolute, confidence),
        )

    def needed(self, limit: float, unit: LossUnit, confidence: float) -> int | None:
        """About how many samples like these would prove the loss to be at most `limit`, a fraction; None if none."""
        loss = self.loss(unit)
        if loss >= limit:
            return None
        about = samples_for(self.upper(unit, confidence) - loss, self.samples, limit - loss, confidence)
        return max(about, self.samples + 1)

    def elsewhere(self, samples: int, unit: LossUnit, confidence: float) -> float:
        """About the upper bound on another number of samples like these."""
        loss = self.loss(unit)
        return loss + width_elsewhere(self.upper(unit, confidence) - loss, self.samples, samples, confidence)

    def told(self) -> str:
        """`0.9312 against 0.9330, 12 lower and 5 higher of 2,000`."""
        lower, higher = int((self.engine < self.given).sum()), int((self.engine > self.given).sum())
        scored = f"{float(self.engine.mean()):.4f} against {self.reference:.4f}"
        return f"{scored}, {lower:,} lower and {higher:,} higher of {self.samples:,}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Paired results, whole or in parts. Where every score is 0 or 1 the exact bound holds, of the parts as well."""

    reference: NDArray[np.float64]
    engine: NDArray[np.float64]
    order: NDArray[np.int_] | None

    @classmethod
    def of(cls, rows: PairedResults, metric: str) -> Evidence:
        """Raises InvalidResults if a score is outside [0, 1], naming the sample, or if one figure of all samples stands
        in the place of each one's score."""
        for name, scores in (("reference", rows.reference), ("engine", rows.engine)):
            outside = np.flatnonzero(~((scores >= 0.0) & (scores <= 1.0)))
            if len(outside):
                raise InvalidResults(
                    expected=f"right/wrong answers (0 or 1) or scores in [0, 1] from metric {metric!r}",
                    found=f"{scores[outside[0]]:g} for sample {rows.sample_ids[outside[0]]!r} under the {name}",
                    remedy="let the metric return such scores, more being better, as regiolect.evaluate.metrics.top1; "
                    "an error goes into regiolect.model.Measure(..., greater_is_better=False)",
                )
            require_own_scores(name, [scores])
        exact = all(((scores == 0.0) | (scores == 1.0)).all() for scores in (rows.reference, rows.engine))
        return cls(rows.reference, rows.engine, None if exact else by_digest(rows.sample_ids))

    def whole(self) -> Losses:
        """All samples."""
        return self.part(None)

    def part(self, chosen: NDArray[np.bool_] | None) -> Losses:
        """The samples that are `chosen`, shape (n,), at least one."""
        if self.order is None:
            where: NDArray[np.bool_] | slice = slice(None) if chosen is None else chosen
            return Tally.of(self.reference[where], self.engine[where])
        order = self.order if chosen is None else self.order[chosen[self.order]]
        return Scores(self.reference[order], self.engine[order])


def fewest(limit: float, unit: LossUnit, losses: Losses, confidence: float) -> int:
    """Samples that any proof of a loss of at most `limit`, a fraction, takes; 0 where no number is known."""
    share = limit * (losses.reference if unit is LossUnit.RELATIVE_PERCENT else 1.0)
    return minimum_samples(share, confidence) if share > 0 else 0
