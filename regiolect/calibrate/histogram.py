"""Streaming histograms and ranges whose content does not depend on the order or split of what they were shown."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.errors import CalibrationError, NonFiniteActivation
from regiolect.host.processors import processors

BINS = 1 << 14
"""Bins kept per tensor: eight times the 2048 that the entropy search looks at, so that it can look closer."""

# The narrowest grid is [0, 2**-96): its scale and every product with it are normal float32 numbers.
_LOWEST_EXPONENT = -96
# Values binned at a time: enough to outweigh what a call costs, few enough for a core's caches.
_CHUNK = 1 << 18
# SciPy adds up a sparse column in 0.6 of the time of numpy's bincount, but one thread at a time; with many cores that
# costs more than it saves.
_FEW_CORES = 8
_CORES = processors()
_ONE = np.ones(1, np.int32)


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(BINS, np.int64)


@dataclass(eq=False)
class Histogram:
    """Counts of |x| in equal bins over [0, 2**exponent), with the exact smallest and largest x seen.

    2**exponent is the smallest power of two above the largest magnitude seen. All bin widths are powers of two, so a
    bin of a wider grid is exactly a pair (or four, ...) of bins of a narrower one, scaling to bins is exact in
    float32, and widening on the way gives the very counts that binning on the final grid would have given.

    Attributes:
        counts: int64, a power of two of bins; bin i holds i * width <= |x| < (i + 1) * width.
        exponent: of the grid's upper end.
        minimum: smallest x seen, +inf before the first.
        maximum: largest x seen, -inf before the first.
    """

    counts: NDArray[np.int64] = field(default_factory=_no_counts)
    exponent: int = _LOWEST_EXPONENT
    minimum: float = math.inf
    maximum: float = -math.inf

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    @property
    def magnitude(self) -> float:
        """Largest |x| seen, exactly; 0.0 before the first."""
        return max(-self.minimum, self.maximum, 0.0)

    @property
    def width(self) -> float:
        """Width of one bin in the units of x."""
        return math.ldexp(1.0, self.exponent) / len(self.counts)

    def update(self, values: NDArray[Any]) -> None:
        """Count values of any shape; none is allowed.

        Raises:
            NonFiniteActivation: a value is NaN or infinite; what was counted so far is then of no use.
        """
        flat = np.asarray(values, np.float32).reshape(-1)
        # A piece at a time through every step, while it is in a core's caches.
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            low, high = _ends(chunk)
            if not (math.isfinite(low) and math.isfinite(high)):
                raise NonFiniteActivation(
                    expected="finite values",
                    found=f"values from {low} to {high}",
                    remedy="find the sample that makes them and mend or remove it",
                )
            self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
            self._widen(_exponent_above(self.magnitude))
            self._count(chunk, negative=low < 0.0)

    def _count(self, chunk: NDArray[np.float32], *, negative: bool) -> None:
        bins = len(self.counts)
        floats, places = _scratch.floats[: chunk.size], _scratch.places[: chunk.size]
        np.multiply(chunk, np.float32(math.ldexp(float(bins), -self.exponent)), out=floats)
        if negative:
            np.abs(floats, out=floats)
        np.copyto(places, floats, casting="unsafe")
        self.counts += _scratch.tally(chunk.size, bins)

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = _coarsen(self.counts, exponent - self.exponent)
            self.exponent = exponent


@dataclass(eq=False)
class Extremes:
    """The exact smallest and largest finite x seen; the same for any order or split.

    Infinities are left out: a mask's -inf is what it is in any float type.

    Attributes:
        minimum: +inf before the first.
        maximum: -inf before the first.
    """

    minimum: float = math.inf
    maximum: float = -math.inf

    def update(self, values: NDArray[Any]) -> None:
        """Take in float32 values of any shape; none is allowed.

        Raises:
            NonFiniteActivation: a value is NaN; nothing was taken in.
        """
        if not values.size:
            return
        low, high = _ends(values)
        if math.isnan(low):
            raise NonFiniteActivation(
                expected="numbers", found="NaN", remedy="find the sample that makes it and mend or remove it"
            )
        if math.isinf(low) or math.isinf(high):
            finite = values[np.isfinite(values)]
            low, high = _ends(finite) if finite.size else (math.inf, -math.inf)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)


class _Scratch(threading.local):
    """What a thread counts with: a chunk's scaled values, and the bins that they fall into."""

    def __init__(self) -> None:
        self.floats = np.empty(_CHUNK, np.float32)
        self.places = np.empty(_CHUNK, np.int32)
        self.columns: dict[int, Any] = {}

    def tally(self, size: int, bins: int) -> NDArray[Any]:
        """How many of the first `size` places, all of them from 0 to bins - 1, are each bin."""
        if _CORES > _FEW_CORES:
            return np.bincount(self.places[:size], minlength=bins)
        # A sparse column of ones at these rows; its product with 1 adds up the ones of each row.
        if bins not in self.columns:
            from scipy.sparse import csc_array

            ones, ends = np.ones(_CHUNK, np.int32), np.array([0, _CHUNK], np.int32)
            self.columns[bins] = csc_array((ones, self.places, ends), shape=(bins, 1))
        column = self.columns[bins]
        column.indptr[1] = size
        counted: NDArray[Any] = column @ _ONE
        return counted


_scratch = _Scratch()


def histogram_of(values: NDArray[Any]) -> Histogram:
    """The histogram of one array.

    Raises:
        NonFiniteActivation: a value is NaN or infinite.
    """
    histogram = Histogram()
    histogram.update(values)
    return histogram


def merge(one: Histogram, other: Histogram) -> Histogram:
    """The histogram of all that either was shown; both are left as they are.

    Raises:
        CalibrationError: they have different numbers of bins.
    """
    if len(one.counts) != len(other.counts):
        raise CalibrationError(
            expected=f"two histograms of {len(one.counts)} bins",
            found=f"one of {len(other.counts)}",
            remedy="collect both with the same version of regiolect",
        )
    exponent = max(one.exponent, other.exponent)
    return Histogram(
        counts=_coarsen(one.counts, exponent - one.exponent) + _coarsen(other.counts, exponent - other.exponent),
        exponent=exponent,
        minimum=min(one.minimum, other.minimum),
        maximum=max(one.maximum, other.maximum),
    )


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    # Adding 0.0 turns -0.0 into 0.0: a table's bytes must not depend on which zero came first.
    return float(values.min()) + 0.0, float(values.max()) + 0.0


def _exponent_above(magnitude: float) -> int:
    # frexp gives magnitude = m * 2**e with 0.5 <= m < 1, so 2**e is strictly above and no value meets the upper edge.
    return max(math.frexp(magnitude)[1], _LOWEST_EXPONENT) if magnitude else _LOWEST_EXPONENT


def _coarsen(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """Counts on a grid that reaches 2**doublings times as far with as many bins."""
    per_bin = min(1 << min(doublings, 62), len(counts))
    coarse = np.zeros_like(counts)
    coarse[: len(counts) // per_bin] = counts.reshape(-1, per_bin).sum(axis=1)
    return coarse
