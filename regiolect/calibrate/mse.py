"""The clip threshold of least squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regiolect.calibrate.histogram import Histogram
from regiolect.errors import EmptyHistogram

CANDIDATES = 1024
STEPS = 127

# Errors closer than this share of the values' power count as equal, so that rounding cannot decide between two.
_TIE = 1e-12


def mse_threshold(histogram: Histogram, candidates: int = CANDIDATES, steps: int = STEPS) -> float:
    """Magnitude at which rounding and clipping together cost least, as the mean of the squared error.

    Each of `candidates` magnitudes, equally far apart from zero to the histogram's upper end, is tried: every value,
    taken to lie in the middle of its bin, goes to the nearest of `steps` steps up to the candidate, or to the last one.
    The first bin is left out: zeros are exact at any threshold.

    Args:
        histogram: counts of |x|; its number of bins is a multiple of `candidates`.
        candidates: magnitudes tried, at most; those that leave fewer bins than steps are not.
        steps: quantized steps on one side of zero; 127 for symmetric int8.

    Returns:
        The best candidate, of equal ones the largest, at most the largest magnitude seen, in the units of x; 0.0 for a
        tensor that is always zero.

    Raises:
        EmptyHistogram: nothing was counted.

    Source: Y. Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference", 2019 (minimum mean
    squared error as the objective).
    """
    counts = histogram.counts
    if not counts.any():
        raise EmptyHistogram(
            expected="at least one value in the histogram",
            found="none",
            remedy="calibrate on samples that reach this tensor",
        )
    if not counts[1:].any():
        return histogram.magnitude
    kept = bins_to_keep(counts, len(counts) // candidates, steps)
    return min(kept * histogram.width, histogram.magnitude)


def bins_to_keep(counts: NDArray[np.int64], apart: int, steps: int) -> int:
    """How many bins to keep for the least squared error; of equal numbers, the largest.

    Args:
        counts: int64, not all zero after the first.
        apart: bins between two candidates.
        steps: quantized steps, and the least number of bins kept where there are as many.
    """
    used = int(np.flatnonzero(counts)[-1]) + 1
    last = -(-used // apart) * apart
    keep = np.arange(apart, last + 1, apart)
    keep = keep[(keep > steps) | (keep == last)]

    # Prefix sums of the values' powers 0, 1 and 2: the error of all that goes to one step is made of differences.
    values = np.arange(len(counts)) + 0.5
    weights = counts.astype(np.float64)
    weights[0] = 0.0
    sums = np.zeros((3, len(counts) + 1))
    for power in range(3):
        np.cumsum(weights * values**power, out=sums[power, 1:])

    # Bin j goes to step q when (q - 1/2) * keep / steps <= j + 1/2, in integers; what is clipped goes to the last one.
    step = np.arange(steps + 1)[None, :]
    first = -((steps - (2 * step - 1) * keep[:, None]) // (2 * steps))
    first = np.clip(first, 0, len(counts))
    edges = np.concatenate([first, np.full((len(keep), 1), len(counts))], axis=1)
    number, total, power = (np.diff(each[edges], axis=1) for each in sums)
    level = step * (keep[:, None] / steps)
    error = (power - 2 * level * total + level**2 * number).sum(axis=1)
    return int(keep[error <= error.min() + _TIE * sums[2, -1]][-1])
