"""Times of an engine and its FP32 baseline, interleaved so that a drifting machine moves both alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from regiolect.contracts import Timing

WARM_UP = 5
MIN_ROUNDS = 30


def measure(
    engine: Callable[[], object],
    baseline: Callable[[], object],
    batch: int,
    batches: int = 1,
    seconds: float = 1.0,
    most: int = 400,
) -> Timing:
    """Call engine and baseline in turn, in changing order, for about `seconds` in all.

    Args:
        engine: runs one round through the engine under test.
        baseline: runs the same round through the FP32 engine.
        batch: samples in a batch.
        batches: batches in a round.
        seconds: how long to go on; at least 30 rounds are made, and at most `most`.

    Returns:
        Medians and 99th percentiles in milliseconds per round, and the median over rounds of baseline / engine.
    """
    for _ in range(WARM_UP):
        engine()
        baseline()
    mine: list[float] = []
    theirs: list[float] = []
    end = time.perf_counter() + seconds
    while len(mine) < MIN_ROUNDS or (len(mine) < most and time.perf_counter() < end):
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
        baseline_p50_ms=float(baseline_p50),
        baseline_p99_ms=float(baseline_p99),
        throughput=float(batch * batches / p50 * 1e3),
        speedup=float(np.median(np.divide(theirs, mine))),
    )
