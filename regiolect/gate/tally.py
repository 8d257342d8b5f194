"""Right/wrong results of reference and engine as the paired table that the exact bound starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import LossUnit
from regiolect.gate.bounds import (
    SLACK,
    clopper_pearson,
    loss_upper_bound,
    relative_loss_lower_bound,
    relative_loss_upper_bound,
    samples_needed,
)


@dataclass(frozen=True)
class Tally:
    """Counts of a paired table.

    Attributes:
        samples: all of them.
        lost: the reference is right and the engine wrong.
        gained: the other way round.
        right: the reference is right.
    """

    samples: int
    lost: int
    gained: int
    right: int

    @classmethod
    def of(cls, reference: NDArray[np.float64], engine: NDArray[np.float64]) -> Tally:
        """The counts of right/wrong scores, each 0 or 1, shape (n,)."""
        right, engine_right = reference == 1.0, engine == 1.0
        return cls(
            samples=len(reference),
            lost=int((right & ~engine_right).sum()),
            gained=int((engine_right & ~right).sum()),
            right=int(right.sum()),
        )

    @property
    def reference(self) -> float:
        """The reference's score."""
        return self.right / self.samples

    @property
    def differ(self) -> bool:
        """Whether the two disagree on any sample."""
        return self.lost + self.gained > 0

    def loss(self, unit: LossUnit) -> float:
        """The loss as seen, a fraction: of all samples, or of those that the reference has right."""
        return (self.lost - self.gained) / (self.right if unit is LossUnit.RELATIVE_PERCENT else self.samples)

    def upper(self, unit: LossUnit, confidence: float, *, slack: float = SLACK) -> float:
        """Upper bound of the loss, a fraction; at most about `slack` standard errors above the least one."""
        counts = self.lost, self.gained
        if unit is LossUnit.RELATIVE_PERCENT:
            return relative_loss_upper_bound(*counts, self.right, self.samples, confidence, slack=slack)
        return loss_upper_bound(*counts, self.samples, confidence, slack=slack)

    def lower(self, unit: LossUnit, confidence: float) -> float:
        """Lower bound of the loss, a fraction."""
        if unit is LossUnit.RELATIVE_PERCENT:
            return relative_loss_lower_bound(self.lost, self.gained, self.right, self.samples, confidence)
        return -loss_upper_bound(self.gained, self.lost, self.samples, confidence)

    @property
    def engine_score(self) -> float:
        """The engine's score."""
        return (self.right - self.lost + self.gained) / self.samples

    def score_bounds(self, confidence: float) -> tuple[float, float]:
        """Lower and upper limit of the engine's own score, each one-sided at `confidence` (Clopper-Pearson)."""
        return clopper_pearson(self.right - self.lost + self.gained, self.samples, 1.0 - confidence)

    def needed(self, limit: float, unit: LossUnit, confidence: float) -> int | None:
        """About how many samples like these would prove the loss to be at most `limit`, a fraction; None if none."""
        # A relative limit becomes an absolute one at the reference's score as it was seen.
        share = limit * (self.reference if unit is LossUnit.RELATIVE_PERCENT else 1.0)
        return samples_needed(self.lost, self.gained, self.samples, share, confidence)

    def elsewhere(self, samples: int, unit: LossUnit, confidence: float) -> float:
        """The upper bound on another number of samples that go wrong as often as these, rounded to the careful side."""
        scale = samples / self.samples
        lost = min(int(np.ceil(self.lost * scale - 1e-9)), samples)
        gained = min(int(np.floor(self.gained * scale + 1e-9)), samples - lost)
        right = min(max(int(np.floor(self.right * scale + 1e-9)), lost), samples - gained)
        return Tally(samples, lost, gained, right).upper(unit, confidence)

    def told(self) -> str:
        """`6 answers lost, 4 gained of 4,000`."""
        answers = "answer" if self.lost == 1 else "answers"
        return f"{self.lost:,} {answers} lost, {self.gained:,} gained of {self.samples:,}"
