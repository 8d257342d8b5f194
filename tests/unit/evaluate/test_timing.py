"""The bound of the 99th percentile, and what `measure` makes of it."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regiolect.errors import InvalidSetting
from regiolect.evaluate.timing import measure, percentile_upper, rounds_for

confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def at_most(successes: int, n: int, rate: float) -> float:
    """The binomial distribution function, summed."""
    return math.fsum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(successes + 1))


@settings(deadline=None)
@given(n=st.integers(1, 700), confidence=confidences)
def test_the_bound_is_the_least_time_that_is_sure_enough(n: int, confidence: float) -> None:
    # Times are their own ranks. Rank k is no bound only when at most n - k times lie above the percentile.
    bound = percentile_upper(list(np.random.default_rng(n).permutation(n) + 1.0), 0.99, confidence)
    if bound is None:
        assert at_most(0, n, 0.01) > 1 - confidence
        return
    k = int(bound)
    assert at_most(n - k, n, 0.01) <= 1 - confidence + 1e-12
    assert k == 1 or at_most(n - k + 1, n, 0.01) > 1 - confidence


def test_the_bound_holds_as_often_as_stated_on_simulated_times() -> None:
    times = np.random.default_rng(1).lognormal(sigma=0.4, size=(3000, 500))
    true = math.exp(0.4 * 2.3263478740408408)
    covered = np.mean([percentile_upper(row.tolist(), 0.99, 0.95) >= true for row in times])
    # 500 rounds allow for one above the bound; that covers 96.0 % of all runs.
    assert 0.95 <= covered <= 0.97


def test_the_bound_of_a_median_holds_as_often_as_stated_from_either_side() -> None:
    ratios = np.random.default_rng(2).lognormal(sigma=0.3, size=(2000, 40))
    upper = np.array([percentile_upper(row, 0.5, 0.95) for row in ratios])
    lower = np.array([-percentile_upper(-row, 0.5, 0.95) for row in ratios])
    # Of 40 rounds the 26th is the bound, which covers 96.0 %.
    assert 0.95 <= np.mean(upper >= 1.0) <= 0.975
    assert 0.95 <= np.mean(lower <= 1.0) <= 0.975
    assert percentile_upper([1.0] * 4, 0.5, 0.95) is None
    assert percentile_upper([1.0, 2.0, 3.0, 4.0, 5.0], 0.5, 0.95) == 5.0


@settings(deadline=None)
@given(above=st.integers(0, 20), confidence=confidences)
def test_the_fewest_rounds_are_the_fewest(above: int, confidence: float) -> None:
    n = rounds_for(0.99, confidence, above)
    assert at_most(above, n, 0.01) <= 1 - confidence < at_most(above, n - 1, 0.01)


def test_a_bound_at_95_percent_takes_299_rounds() -> None:
    assert rounds_for(0.99, 0.95) == 299
    assert percentile_upper([1.0] * 298, 0.99, 0.95) is None
    assert percentile_upper([*[1.0] * 298, 9.0], 0.99, 0.95) == 9.0
    assert percentile_upper([*[1.0] * 472, 9.0], 0.99, 0.95) == 1.0


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    for call in (
        lambda: percentile_upper([1.0] * 400, 0.99, confidence),
        lambda: rounds_for(0.99, confidence),
        lambda: measure(lambda: None, lambda: None, 1, confidence=confidence),
    ):
        with pytest.raises(InvalidSetting, match=r"0\.95 for 95 %"):
            call()


def busy(milliseconds: float) -> None:
    end = time.perf_counter() + milliseconds / 1e3
    while time.perf_counter() < end:
        pass


def test_thirty_rounds_have_no_bound_and_299_have_one() -> None:
    short = measure(lambda: busy(0.05), lambda: busy(0.1), 4, seconds=0, confidence=0.95)
    assert (short.rounds, short.p99_upper_ms) == (30, None)
    long = measure(lambda: busy(0.05), lambda: busy(0.1), 4, seconds=0, most=10, confidence=0.95, least=299)
    assert long.rounds == 299
    assert long.p99_upper_ms is not None
    assert 0.05 <= long.p50_ms <= long.p99_ms <= long.p99_upper_ms


def test_a_rare_stall_is_seen_by_the_bound_where_the_median_is_blind() -> None:
    calls = iter(range(1000))
    timing = measure(
        lambda: busy(5.0 if next(calls) == 200 else 0.02), lambda: None, 1, seconds=0, confidence=0.95, least=299
    )
    assert timing.p99_upper_ms is not None
    assert timing.p50_ms < 1.0 < 5.0 <= timing.p99_upper_ms
