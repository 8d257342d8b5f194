"""A histogram and a method give a threshold; another method needs no other forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from regiolect.calibrate.entropy import entropy_threshold
from regiolect.calibrate.histogram import Histogram
from regiolect.calibrate.mse import mse_threshold
from regiolect.contracts import CalibrationMethod
from regiolect.errors import EmptyHistogram


def percentile_threshold(histogram: Histogram, percentile: float = 99.99) -> float:
    """Magnitude below which `percentile` percent of the values lie, in the units of x; 0.0 if all are zero.

    Values in the histogram's first bin are left out: zeros are exact at any threshold, and a sparse tensor would
    otherwise have a threshold of next to nothing.

    Returns:
        The upper edge of the bin that reaches the percentile, at most the largest magnitude seen.

    Raises:
        EmptyHistogram: nothing was counted.
    """
    _require_counts(histogram)
    reached = np.cumsum(histogram.counts[1:])
    if reached[-1] == 0:
        return histogram.magnitude
    last = 1 + int(np.searchsorted(reached, reached[-1] * (percentile / 100.0)))
    return min((last + 1) * histogram.width, histogram.magnitude)


def minmax_threshold(histogram: Histogram) -> float:
    """The largest magnitude seen, exactly, in the units of x.

    Raises:
        EmptyHistogram: nothing was counted.
    """
    _require_counts(histogram)
    return histogram.magnitude


_METHODS: Mapping[CalibrationMethod, Callable[[Histogram], float]] = {
    CalibrationMethod.ENTROPY: entropy_threshold,
    CalibrationMethod.PERCENTILE: percentile_threshold,
    CalibrationMethod.MINMAX: minmax_threshold,
    CalibrationMethod.MSE: mse_threshold,
}


def threshold(histogram: Histogram, method: CalibrationMethod) -> float:
    """The clip threshold by `method`, in the units of x.

    Raises:
        EmptyHistogram: nothing was counted.
    """
    return _METHODS[method](histogram)


def _require_counts(histogram: Histogram) -> None:
    if histogram.total == 0:
        raise EmptyHistogram(
            expected="at least one value in the histogram",
            found="none",
            remedy="calibrate on samples that reach this tensor",
        )
