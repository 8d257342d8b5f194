"""Right/wrong results of reference and engine as the paired table that every bound starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regiolect.contracts import LossUnit
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults


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

    def loss(self, unit: LossUnit) -> float:
        """The loss as seen, a fraction: of all samples, or of those that the reference has right."""
        return (self.lost - self.gained) / (self.right if unit is LossUnit.RELATIVE_PERCENT else self.samples)


def tally(rows: PairedResults) -> Tally:
    """The counts of right/wrong results."""
    reference, engine = rows.reference == 1.0, rows.engine == 1.0
    return Tally(
        samples=len(rows),
        lost=int((reference & ~engine).sum()),
        gained=int((engine & ~reference).sum()),
        right=int(reference.sum()),
    )


def require_right_or_wrong(rows: PairedResults, metric: str) -> None:
    """Raises InvalidResults unless every score is 0 or 1."""
    for name, scores in (("reference", rows.reference), ("engine", rows.engine)):
        other = np.flatnonzero((scores != 0.0) & (scores != 1.0))
        if len(other):
            raise InvalidResults(
                expected=f"right/wrong scores (0 or 1) from metric {metric!r}",
                found=f"{scores[other[0]]:g} for sample {rows.sample_ids[other[0]]!r} under the {name}",
                remedy="name a metric that says right or wrong, such as regiolect.evaluate.metrics.top1",
            )
