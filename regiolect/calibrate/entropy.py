"""The clip threshold that loses least information, by Kullback-Leibler divergence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regiolect.calibrate.histogram import Histogram
from regiolect.errors import EmptyHistogram

SEARCH_BINS = 2048
LEVELS = 128

# Divergences closer than this (in nats) count as equal, so that rounding cannot decide between two thresholds.
_TIE = 1e-9
# Where no value lies near zero, a candidate just above the smallest one turns all values into one: nothing diverges
# there, for nothing is left. So at least half of the values are kept.
_LEAST_KEPT = 0.5
# Look closer while all but one value in a thousand lie below the smallest candidate.
_CROWDED = 1000


def entropy_threshold(histogram: Histogram, bins: int = SEARCH_BINS, levels: int = LEVELS) -> float:
    """Magnitude at which clipping loses least information.

    The search looks at `bins` equal bins from zero up, and tries to keep every number of them from `levels` on. What
    lies beyond a candidate is added to its last bin; the rest is quantized to `levels` levels.

    The first bin is given the count of the second: exact zeros, which dominate after a ReLU, are represented exactly
    at any threshold and must not pull it down. Where single values lie so far out that all but 0.1 % of the others
    fall below the smallest candidate, the search moves to the lower half of the range at twice the resolution, as
    often as the histogram's own bins allow, so that one outlier cannot coarsen the scale of everything else.

    Args:
        histogram: counts of |x|; its number of bins is `bins` times a power of two.
        bins: bins searched, at least twice `levels`.
        levels: quantized levels on one side of zero; 128 for symmetric int8.

    Returns:
        The upper edge of the last bin kept, at most the largest magnitude seen, in the units of x; 0.0 for a tensor
        that is always zero.

    Raises:
        EmptyHistogram: nothing was counted.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017 (divergence of the clipped from the quantized).
    """
    fine = histogram.counts
    if not fine.any():
        raise EmptyHistogram(
            expected="at least one value in the histogram",
            found="none",
            remedy="calibrate on samples that reach this tensor",
        )
    beyond_first = int(fine[1:].sum())
    if beyond_first == 0:
        return histogram.magnitude
    per_bin = len(fine) // bins
    while per_bin > 1 and int(fine[levels * per_bin :].sum()) * _CROWDED <= beyond_first:
        per_bin //= 2
    window = fine[: bins * per_bin].reshape(bins, per_bin).sum(axis=1)
    kept = bins_to_keep(window, int(fine[bins * per_bin :].sum()), levels)
    return min(kept * per_bin * histogram.width, histogram.magnitude)


def bins_to_keep(counts: NDArray[np.int64], beyond: int, levels: int) -> int:
    """How many bins to keep for the least divergence; of equal ones, the most.

    A candidate whose last bin is empty while something lies beyond it has infinite divergence. One that would clip more
    than half of the values is not considered, unless all would.

    Args:
        counts: int64, more than `levels` of them, not all zero after the first.
        beyond: values above the last bin.
        levels: quantized levels, and the least number of bins kept.
    """
    counts = counts.copy()
    counts[0] = counts[1]
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= levels:
        return used
    total = float(counts.sum() + beyond)

    # With prefix sums every sum over a level is a difference of two, so a candidate costs `levels` steps and no more.
    filled = counts > 0
    mass = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    keep = np.arange(levels, used + 1)
    keep = keep[(counts[keep - 1] > 0) & (mass[keep] >= min(_LEAST_KEPT * total, mass[used]))]
    occupied = np.concatenate([[0], np.cumsum(filled)])
    own = np.concatenate([[0.0], np.cumsum(_times_log(counts.astype(np.float64)))])

    # Bin j belongs to level g when g * keep / levels <= j < (g + 1) * keep / levels.
    edges = -(-np.arange(levels + 1)[None, :] * keep[:, None] // levels)
    level_mass = np.diff(mass[edges], axis=1)
    # A level's mass is spread evenly over its filled bins; a filled bin holds at least one value, so the mean is >= 1.
    level_mean = np.maximum(level_mass / np.maximum(np.diff(occupied[edges], axis=1), 1), 1.0)

    clipped = total - mass[keep]
    last = counts[keep - 1] + clipped
    reference = own[keep - 1] + _times_log(last) - total * np.log(total)
    quantized = (
        (level_mass * np.log(level_mean)).sum(axis=1) + clipped * np.log(level_mean[:, -1]) - total * np.log(mass[keep])
    )
    divergence = (reference - quantized) / total
    return int(keep[divergence <= divergence.min() + _TIE][-1])


def _times_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * np.log(np.maximum(values, 1.0))
