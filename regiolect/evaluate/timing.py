"""Times of an engine and its FP32 baseline, interleaved so that a drifting machine moves both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from regiolect.contracts import Timing
from regiolect.errors import InvalidSetting

WARM_UP = 5
MIN_ROUNDS = 30
_SLOWEST = 0.01  # the share of rounds that lies above a 99th percentile


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
        confidence: of the upper bound of the engine's 99th percentile, one-sided.
        least: rounds at least; `rounds_for_p99` says how many a bound takes.

    Returns:
        Medians and 99th percentiles in milliseconds per round, the bound, and the median over rounds of baseline /
        engine.

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
    baseline_p50, baseline_p99 = np.percentile(theirs, (50, 99))
    return Timing(
        batch=batch,
        batches=batches,
        rounds=len(mine),
        p50_ms=float(p50),
        p99_ms=float(p99),
        p99_upper_ms=p99_upper(mine, confidence),
        baseline_p50_ms=float(baseline_p50),
        baseline_p99_ms=float(baseline_p99),
        throughput=float(batch * batches / p50 * 1e3),
        speedup=float(np.median(np.divide(theirs, mine))),
    )


def p99_upper(times: Sequence[float], confidence: float) -> float | None:
    """Upper confidence bound of the 99th percentile of what `times` were drawn from, whatever their distribution.

    It is the k-th smallest time. The percentile lies above it only if fewer than n - k + 1 of n times exceed the
    percentile, and k is the least for which that is rarer than 1 - confidence. Times are taken as independent.

    Returns:
        None if even the largest time is no bound: too few were taken.

    Raises:
        InvalidSetting: the confidence is not between 0 and 1.

    Source: binomial bounds by order statistics; H. A. David and H. N. Nagaraja, Order Statistics (2003), 7.1.
    """
    from scipy import stats

    _check(confidence)
    if len(times) < rounds_for_p99(confidence):
        return None
    # The least number of times at or below the percentile that is not surpassed with the stated confidence.
    below = int(stats.binom.ppf(confidence, len(times), 1 - _SLOWEST))
    return float(np.sort(times)[below])


def rounds_for_p99(confidence: float, above: int = 0) -> int:
    """The fewest rounds whose 99th percentile can be bounded by a value that `above` of them exceed.

    299 for 95 % with `above` 0, where the bound is the slowest round; 473 for the slowest but one.

    Raises:
        InvalidSetting: the confidence is not between 0 and 1.
    """
    from scipy import stats

    _check(confidence)
    # With so many rounds, more than `above` of them lie above the percentile, as surely as stated.
    return int(stats.nbinom.ppf(confidence, above + 1, _SLOWEST)) + above + 1


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidSetting(
            expected="a confidence between 0 and 1", found=f"{confidence}", remedy="state 0.95 for 95 %"
        )
