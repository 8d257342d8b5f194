"""What a point's answers are forecast to take, against cases that can be worked out by hand or from theory."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regiolect.serving.forecast import Forecast, Point, played


def point(batch: int, slots: int, seconds: dict[int, float], alone: dict[int, float] | None = None) -> Point:
    return Point(0, batch, slots, seconds, seconds if alone is None else alone, "a test")


def poisson(count: int) -> list[float]:
    chance = random.Random(1)  # noqa: S311 - no secret
    return [chance.expovariate(1.0) for _ in range(count)]


def test_a_batch_takes_what_was_measured_and_between_two_sizes_what_lies_between() -> None:
    some = point(8, 2, {1: 1.0, 4: 2.5, 8: 4.0}, alone={1: 0.5, 4: 1.5, 8: 3.0})
    assert [some.takes(rows) for rows in (1, 2, 4, 6, 8)] == [1.0, 1.5, 2.5, 3.25, 4.0]
    assert some.takes(16) == 8.0
    assert (some.takes(4, beside=0), some.takes(4, beside=1)) == (1.5, 2.5)
    assert some.rate == 2 * 8 / 4.0


def test_a_batch_is_an_even_share_of_what_waits() -> None:
    some = point(8, 2, {8: 1.0})
    assert [some.share(waiting) for waiting in (1, 2, 3, 8, 15, 16, 100)] == [1, 1, 2, 4, 8, 8, 8]


def test_requests_that_never_meet_take_what_one_takes() -> None:
    assert played(point(1, 1, {1: 0.1}), 1.0, [0.5] * 50) == pytest.approx(0.1)


def test_requests_that_come_together_are_answered_in_the_order_and_batches_of_the_rule() -> None:
    # Four at once: one at a time take 1, 2, 3 and 4 s; the first alone and then three together, 1 and 1 + 2 s.
    assert played(point(1, 1, {1: 1.0}), 1.0, [1.0, 0.0, 0.0, 0.0]) == pytest.approx(4.0)
    assert played(point(4, 1, {1: 1.0, 4: 2.5}), 1.0, [1.0, 0.0, 0.0, 0.0]) == pytest.approx(3.0)
    assert played(point(1, 4, {1: 3.5}, alone={1: 1.0}), 1.0, [1.0, 0.0, 0.0, 0.0]) == pytest.approx(3.5)


def test_the_forecast_of_one_slot_is_that_of_queueing_theory() -> None:
    # One server, constant service of 1 s: the distribution of waits is Erlang's (1909).
    def at_most(wait: float, rate: float) -> float:
        whole = math.floor(wait)
        terms = ((-rate * (wait - k)) ** k / math.factorial(k) * math.exp(rate * (wait - k)) for k in range(whole + 1))
        return (1 - rate) * math.fsum(terms)

    for rate in (0.3, 0.6, 0.8):
        waited = played(point(1, 1, {1: 1.0}), rate, poisson(60_000)) - 1.0
        assert 0.985 <= at_most(waited, rate) <= 0.9935


@settings(deadline=None, max_examples=30)
@given(first=st.floats(0.01, 1), growth=st.floats(0.1, 1), slots=st.integers(1, 3), batch=st.sampled_from([1, 2, 8]))
def test_more_load_never_looks_better_and_a_forecast_is_never_under_one_batch(
    first: float, growth: float, slots: int, batch: int
) -> None:
    some = point(batch, slots, {rows: first * rows**growth for rows in (1, 2, 8) if rows <= batch})
    gaps = poisson(400)
    waits = [played(some, share * some.rate, gaps) for share in (0.1, 0.5, 0.9)]
    assert waits[0] >= some.takes(1) - 1e-12
    if batch == 1:
        assert waits == sorted(waits)


def test_between_rates_the_forecast_lies_between_and_past_capacity_it_stays() -> None:
    slow, fast = point(1, 1, {1: 0.010}), point(8, 2, {1: 0.018, 8: 0.120})
    forecast = Forecast([slow, fast])
    low, middle, high = (forecast.p99(rate) for rate in (53, 55, 60))
    assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))
    assert forecast.p99(1e9) == forecast.p99(fast.rate)
    assert forecast.p99(0.0)[0] == pytest.approx(0.010, rel=0.1)
    # The fast one's rate is past what the slow one can do.
    assert forecast.p99(fast.rate)[0] > 10 * forecast.p99(fast.rate)[1]
