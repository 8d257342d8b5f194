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
# Look closer while all but one value in a thousand lie below the smallest candidate.
_CROWDED = 1000
# A bin with a repeated value holds more than so many times the median of the filled bins around it.
_STANDS_OUT = 2
# So many of them: half may hold such values themselves, as the backgrounds of 32 channels do, side by side.
_AROUND = 65


def entropy_threshold(histogram: Histogram, bins: int = SEARCH_BINS, levels: int = LEVELS) -> float:
    """Magnitude at which clipping loses least information.

    The search looks at `bins` equal bins from zero up, and tries to keep every number of them from `levels` on. What
    lies beyond a candidate is added to its last bin; the rest is quantized to `levels` levels.

    Values that occur again and again tell nothing of how wide a level may be: zeros behind a ReLU, padding, and what a
    bias makes of an image's background. A quantizer moves such a value by half a step at most, as any other. But to a
    divergence it is a spike that is spread over the r bins of its level: a share s of the values costs about s log r,
    while clipping a share f costs about f log(f / q), where q is the share of the last level. With most of an image in
    the background the least divergence is then that of the smallest candidate, where r is 1, however much of all else
    it clips. So a repeated value counts no more than twice as much as what is common around it as long as it is kept,
    and zeros as much as the bin above them; a repeated value that is clipped counts whole.

    Where single values lie so far out that all but 0.1 % of the others fall below the smallest candidate, the search
    moves to the lower half of the range at twice the resolution, as often as the histogram's own bins allow, so that
    one outlier cannot coarsen the scale of everything else.

    Args:
        histogram: counts of |x|; its number of bins is `bins` times a power of two.
        bins: bins searched, at least twice `levels`.
        levels: quantized levels on one side of zero; 128 for symmetric int8.

    Returns:
        The upper edge of the last bin kept, at most the largest magnitude seen, in the units of x; 0.0 for a tensor
        that is always zero.

    Raises:
        EmptyHistogram: nothing was counted.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017 (divergence of the clipped from the quantized). The
    rule for repeated values is Regiolect's (docs/adr/0038).
    """
    seen = histogram.counts
    if not seen.any():
        raise EmptyHistogram(
            expected="at least one value in the histogram",
            found="none",
            remedy="calibrate on samples that reach this tensor",
        )
    if not seen[1:].any():
        return histogram.magnitude
    fine = without_repeats(seen)
    per_bin = len(fine) // bins
    while per_bin > 1 and int(seen[levels * per_bin :].sum()) * _CROWDED <= int(fine[1:].sum()):
        per_bin //= 2
    window, whole = (each[: bins * per_bin].reshape(bins, per_bin).sum(axis=1) for each in (fine, seen))
    kept = bins_to_keep(window, whole, int(seen[bins * per_bin :].sum()), levels)
    return min(kept * per_bin * histogram.width, histogram.magnitude)


def without_repeats(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts in which no bin stands out by a value that occurs again and again, so that a smooth distribution is left.

    A bin holds at most twice the median of the 65 filled bins around it, and the first one, with all zeros, what the
    second holds. The more often a value is seen that stands out already, the less it matters: the answer is the same.

    Args:
        counts: int64, not all zero after the first.
    """
    from scipy.ndimage import median_filter

    smooth = np.zeros_like(counts)
    filled = 1 + np.flatnonzero(counts[1:])
    held = counts[filled]
    smooth[filled] = np.minimum(held, _STANDS_OUT * median_filter(held, _AROUND))
    smooth[0] = smooth[1]
    return smooth


def bins_to_keep(counts: NDArray[np.int64], seen: NDArray[np.int64], beyond: int, levels: int) -> int:
    """How many bins to keep for the least divergence; of equal ones, the most.

    A candidate whose last bin is empty while something lies beyond it has infinite divergence. One that would clip more
    than it keeps is not considered, unless all would.

    Args:
        counts: int64, more than `levels` of them, not all zero: what counts of each bin while it is kept.
        seen: int64, as many, and zero where `counts` are: what counts of each bin if it is clipped.
        beyond: values above the last bin.
        levels: quantized levels, and the least number of bins kept.
    """
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= levels:
        return used

    # With prefix sums every sum over a level is a difference of two, so a candidate costs `levels` steps and no more.
    filled = counts > 0
    mass = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    above = float(seen.sum() + beyond) - np.concatenate([[0.0], np.cumsum(seen, dtype=np.float64)])
    keep = np.arange(levels, used + 1)
    # Where no value lies near zero, a candidate just above the smallest one turns all values into one: nothing diverges
    # there, for nothing is left. So at least half of what counts is kept.
    keep = keep[(counts[keep - 1] > 0) & ((mass[keep] >= above[keep]) | (keep == used))]
    occupied = np.concatenate([[0], np.cumsum(filled)])
    own = np.concatenate([[0.0], np.cumsum(_times_log(counts.astype(np.float64)))])

    # Bin j belongs to level g when g * keep / levels <= j < (g + 1) * keep / levels.
    edges = -(-np.arange(levels + 1)[None, :] * keep[:, None] // levels)
    level_mass = np.diff(mass[edges], axis=1)
    # A level's mass is spread evenly over its filled bins; a filled bin holds at least one value, so the mean is >= 1.
    level_mean = np.maximum(level_mass / np.maximum(np.diff(occupied[edges], axis=1), 1), 1.0)

    kept, clipped = mass[keep], above[keep]
    total = kept + clipped
    reference = own[keep - 1] + _times_log(counts[keep - 1] + clipped) - _times_log(total)
    quantized = (level_mass * np.log(level_mean)).sum(axis=1) + clipped * np.log(level_mean[:, -1])
    divergence = (reference - quantized + total * np.log(kept)) / total
    return int(keep[divergence <= divergence.min() + _TIE][-1])


def _times_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * np.log(np.maximum(values, 1.0))
