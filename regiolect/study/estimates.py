"""From per-sample scores to a loss, a saving, and how sure they are.

Two things move a figure, and they are told apart:

- Which calibration samples were drawn. All draws are shown, and the lowest and the highest. No interval is computed
  from them: draws without replacement from one set overlap, so they are not independent, and a t-interval would shrink
  with every further seed although no new calibration sample was ever seen.
- Which samples an engine was tested on. These are independent, so the mean over draws has a standard error over test
  samples and an interval by the normal approximation, paired: of each sample's difference, averaged over the draws.

Where next to no sample differs, the normal approximation claims too much (nothing at all, where none does). So an
interval is never narrower on a side than what that many samples prove when none of them differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from regiolect.study.result import StudyCell, StudySaving, Verdict

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean difference in points: one value per draw, their mean, and its sampling error and interval."""

    draws: tuple[float, ...]
    mean: float
    error: float
    lower: float
    upper: float


def estimate(differences: Floats, confidence: float) -> Estimate:
    """The mean of paired differences over draws and samples.

    Args:
        differences: (draws, samples), each within -1 to 1.
        confidence: of the two-sided interval, for other samples and the same draws.

    Source: standard error of paired differences; least half-width by C. Clopper and E. Pearson, Biometrika 26 (1934)
    404: the rate that samples without a single success do not rule out.
    """
    by_draw = 100.0 * differences.mean(axis=1)
    by_sample = differences.mean(axis=0)
    count = len(by_sample)
    error = 100.0 * float(by_sample.std(ddof=1)) / math.sqrt(count)
    beyond = (1.0 - confidence) / 2
    half = max(NormalDist().inv_cdf(1.0 - beyond) * error, room(count, confidence))
    mean = float(by_draw.mean())
    return Estimate(tuple(by_draw.tolist()), mean, error, mean - half, mean + half)


def room(samples: int, confidence: float) -> float:
    """Points that a loss may have though none of so many samples shows any, two-sided at `confidence`."""
    return 100.0 * -math.expm1(math.log((1.0 - confidence) / 2) / samples)


def for_all(confidence: float, comparisons: int) -> float:
    """The confidence that each comparison needs for all of them together to have `confidence`.

    Source: C. Bonferroni (1936); holds however the comparisons depend on each other.
    """
    return 1.0 - (1.0 - confidence) / comparisons


def cell_of(calibrated_on: str, tested_on: str, reference: Floats, engines: Floats, confidence: float) -> StudyCell:
    """One cell of the matrix.

    Args:
        reference: FP32's score per test sample, (samples,).
        engines: the engines' scores, (draws, samples).
        confidence: of the cell's own interval.
    """
    estimated = estimate(reference[None, :] - engines, confidence)
    return StudyCell(
        calibrated_on=calibrated_on,
        tested_on=tested_on,
        losses=estimated.draws,
        loss=estimated.mean,
        lowest=min(estimated.draws),
        highest=max(estimated.draws),
        sampling_error=estimated.error,
        lower=estimated.lower,
        upper=estimated.upper,
    )


def saving_of(
    calibrated_on: str, tested_on: str, local: Floats, foreign: Floats, confidence: float, pairs: int
) -> StudySaving:
    """What local calibration saves against a foreign one: scores (draws, samples) of both, by the same seeds.

    A difference is called only if the interval of its mean over draws leaves out zero; then it is local's or foreign's
    if every single draw says the same, and depends on the draw otherwise.

    Args:
        confidence: of the intervals of all pairs together.
        pairs: how many pairs the study compares.
    """
    estimated, alone = (estimate(local - foreign, at) for at in (for_all(confidence, pairs), confidence))
    verdict = Verdict.NONE
    if estimated.lower > 0:
        verdict = Verdict.LOCAL if min(estimated.draws) > 0 else Verdict.MIXED
    elif estimated.upper < 0:
        verdict = Verdict.FOREIGN if max(estimated.draws) < 0 else Verdict.MIXED
    return StudySaving(
        calibrated_on=calibrated_on,
        tested_on=tested_on,
        savings=estimated.draws,
        saving=estimated.mean,
        lowest=min(estimated.draws),
        highest=max(estimated.draws),
        lower=estimated.lower,
        upper=estimated.upper,
        lower_alone=alone.lower,
        upper_alone=alone.upper,
        verdict=verdict,
    )
