"""The rate of arrivals: steady while the load is, quick when it changes."""

from __future__ import annotations

import random

import pytest

from regiolect.serving.arrivals import AGE, LEAST, MOST, RECENT, Arrivals


def come(arrivals: Arrivals, rate: float, count: int, begin: float = 0.0, seed: int = 0, rows: int = 1) -> float:
    chance, now = random.Random(seed), begin  # noqa: S311 - no secret
    for _ in range(count):
        now += chance.expovariate(rate)
        arrivals.add(now, rows)
    return now


def test_nothing_is_known_before_anybody_came() -> None:
    arrivals = Arrivals()
    assert arrivals.rate(5.0) == 0.0
    arrivals.add(5.0, 1)
    assert arrivals.rate(5.0) == 0.0
    assert arrivals.error() == 0.5


@pytest.mark.parametrize("rate", [2.0, 300.0, 20_000.0])
def test_a_load_that_stays_is_told_within_its_error_and_hardly_moves(rate: float) -> None:
    arrivals = Arrivals()
    now, told = 0.0, []
    for part in range(60):
        now = come(arrivals, rate, 100, now, seed=part)
        told.append(arrivals.rate(now))
    assert all(abs(one - rate) < 5 / LEAST**0.5 * rate for one in told[20:])
    assert arrivals.error() <= 1 / LEAST**0.5


def test_samples_are_counted_and_not_requests() -> None:
    arrivals = Arrivals()
    assert arrivals.rate(come(arrivals, 100.0, 2000, rows=3)) == pytest.approx(300, rel=0.1)


@pytest.mark.parametrize("to", [20.0, 50.0, 400.0])
def test_a_load_that_changes_is_told_within_two_hundred_requests(to: float) -> None:
    arrivals = Arrivals()
    now = come(arrivals, 100.0, 5000)
    assert arrivals.rate(now) == pytest.approx(100, rel=0.1)
    now = come(arrivals, to, 200, now, seed=1)
    assert arrivals.rate(now) == pytest.approx(to, rel=0.5)


def test_silence_brings_the_rate_down_without_a_request() -> None:
    arrivals = Arrivals()
    now = come(arrivals, 100.0, 1000)
    assert arrivals.rate(now + 60) < 3


def test_what_is_remembered_is_bounded() -> None:
    arrivals = Arrivals()
    now = come(arrivals, 100_000.0, 2 * MOST)
    assert arrivals.error() == pytest.approx(MOST**-0.5)
    come(arrivals, 40.0, LEAST + 400, now + 2 * AGE)
    assert arrivals.error() == pytest.approx(max(LEAST, 40 * AGE) ** -0.5, rel=0.05)
    assert RECENT < LEAST
