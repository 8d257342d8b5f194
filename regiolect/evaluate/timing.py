"""Times of an engine and its FP32 baseline, interleaved so that a drifting machine moves both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Timing
from regiolect.errors import InvalidSetting

WARM_UP = 5
MIN_ROUNDS = 30


def measure(
    engine: Callable[[], object],
    baseline: Callable[[], object],
    batch: int,
    batches: int = 1,
    seconds: float = 1.0,
    most: int = 400,
    *,
    confidence: float,
    least: int = MIN_ROUNDS,
) -> Timing:
    """Call engine and baseline in turn, in changing order, for about `seconds` in all.

    Args:
        engine: runs one round through the engine under test.
        baseline: runs the same round through the FP32 engine.
        batch: samples in a batch.
        batches: batches in a round.
        seconds: how long to go on, between `least` and `most` rounds; `least` goes before `most`.
        confidence: of each bound, one-sided: of the engine's median and 99th percentile, and of the speed-up.
        least: rounds at least; `rounds_for` says how many a bound takes.

    Returns:
        Medians and 99th percentiles in milliseconds per round, the median over rounds of baseline / engine, and bounds.

    Raises:
        InvalidSetting: the confidence is not between 0 and 1.
    """
    _check(confidence)
    for _ in range(WARM_UP):
        engine()
        baseline()
    mine: list[float] = []
    theirs: list[float] = []
    end = time.perf_counter() + seconds
    while len(mine) < least or (len(mine) < most and time.perf_counter() < end):
        # Whoever runs second finds warm caches; taking turns gives both the same share of that.
        first_is_mine = len(mine) % 2 == 0
        for is_mine in (first_is_mine, not first_is_mine):
            started = time.perf_counter()
            (engine if is_mine else baseline)()
            (mine if is_mine else theirs).append((time.perf_counter() - started) * 1e3)
    p50, p99 = np.percentile(mine, (50, 99))
    ratios = np.divide(theirs, mine)
    slowest_ratio = percentile_upper(-ratios, 0.5, confidence)
    baseline_p50, baseline_p99 = np.percentile(theirs, (50, 99))
    return Timing(
        batch=batch,
        batches=batches,
        rounds=len(mine),
        p50_ms=float(p50),
        p99_ms=float(p99),
        p99_upper_ms=percentile_upper(mine, 0.99, confidence),
        p50_upper_ms=percentile_upper(mine, 0.5, confidence),
        baseline_p50_ms=float(baseline_p50),
        baseline_p99_ms=float(baseline_p99),
        throughput=float(batch * batches / p50 * 1e3),
        speedup=float(np.median(ratios)),
        speedup_lower=None if slowest_ratio is None else -slowest_ratio,
    )


def percentile_upper(figures: Sequence[float] | NDArray[np.float64], share: float, confidence: float) -> float | None:
    """Upper confidence bound of a percentile of what `figures` were drawn from, whatever their distribution.

    It is the k-th smallest figure. The percentile lies above it only if fewer than n - k + 1 of n figures exceed the
    percentile, and k is the least for which that is rarer than 1 - confidence. Figures are taken as independent. The
    lower bound of a median is that of the negated figures, negated.

    Args:
        share: of the distribution that lies below the percentile, 0.5 for the median.

    Returns:
        None if even the largest figure is no bound: too few were taken.

    Raises:
        InvalidSetting: the confidence is not between 0 and 1.

    Source: binomial bounds by order statistics; H. A. David and H. N. Nagaraja, Order Statistics (2003), 7.1.
    """
    from scipy import stats

    _check(confidence)
    if len(figures) < rounds_for(share, confidence):
        return None
    # The least number of figures at or below the percentile that is not surpassed with the stated confidence.
    below = int(stats.binom.ppf(confidence, len(figures), share))
    return float(np.sort(figures)[below])


def rounds_for(share: float, confidence: float, above: int = 0) -> int:
    """The fewest rounds whose percentile can be bounded by a value that `above` of them exceed.

    For the 99th percentile at 95 %: 299 with `above` 0, where the bound is the slowest round; 473 for the slowest but
    one. For the median: 5.

    Raises:
        InvalidSetting: the confidence is not between 0 and 1.
    """
    from scipy import stats

    _check(confidence)
    # With so many rounds, more than `above` of them lie above the percentile, as surely as stated.
    return int(stats.nbinom.ppf(confidence, above + 1, 1 - share)) + above + 1


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidSetting(
            expected="a confidence between 0 and 1", found=f"{confidence}", remedy="state 0.95 for 95 %"
        )
