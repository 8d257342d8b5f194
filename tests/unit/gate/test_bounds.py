"""The bounds against plain enumeration: sums of trinomial probabilities over every table."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, norm

from regiolect.errors import InvalidResults, InvalidSetting
from regiolect.gate.bounds import (
    clopper_pearson,
    loss_bounds,
    loss_upper_bound,
    minimum_samples,
    relative_loss_bounds,
    samples_needed,
)

Floats = NDArray[np.float64]
ROUNDING = 1e-9


def log_factorial(counts: NDArray[np.int_]) -> Floats:
    table = np.cumsum(np.log(np.maximum(np.arange(int(counts.max()) + 1), 1)))
    return table[counts]


def chances(counts: NDArray[np.int_], rates: Floats) -> Floats:
    """Multinomial probabilities, shape (rates, tables); counts and rates hold one category a column."""
    n = counts.sum(axis=1)
    ways = log_factorial(n) - log_factorial(counts).sum(axis=1)
    logs = np.log(np.maximum(rates, 1e-300)) @ counts.T
    return np.exp(ways + logs)


def tables(n: int) -> NDArray[np.int_]:
    """Every (b, c, rest)."""
    return np.array([(b, c, n - b - c) for b in range(n + 1) for c in range(n + 1 - b)])


@cache
def bounds_of_all(n: int, confidence: float) -> Floats:
    return np.array([loss_bounds(int(b), int(c), n, confidence) for b, c, _ in tables(n)])


def rates_at(loss: float, points: int = 400) -> Floats:
    """Every disagreement with this loss, dense where it is rare."""
    smaller = (1 - abs(loss)) / 2 * np.linspace(0, 1, points) ** 2
    p10, p01 = smaller + max(loss, 0), smaller + max(-loss, 0)
    return np.stack([p10, p01, np.maximum(1 - p10 - p01, 0)], axis=1)


@pytest.mark.parametrize(("n", "confidence"), [(1, 0.95), (6, 0.95), (14, 0.95), (14, 0.8), (14, 0.99)])
@pytest.mark.parametrize("loss", [-0.3, 0.0, 0.01, 0.1, 0.25, 0.6])
def test_a_loss_at_the_limit_is_approved_no_more_often_than_stated(n: int, confidence: float, loss: float) -> None:
    approved = bounds_of_all(n, confidence)[:, 1] <= loss
    assert (chances(tables(n), rates_at(loss)) @ approved).max() <= 1 - confidence + ROUNDING


@pytest.mark.parametrize(("n", "confidence"), [(6, 0.95), (14, 0.8), (14, 0.95)])
def test_bounds_hold_at_every_loss_and_the_upper_bound_wastes_nothing(n: int, confidence: float) -> None:
    lower, upper = bounds_of_all(n, confidence).T
    missed_above = missed_below = 0.0
    # Misses are worst just beyond a bound that occurs.
    for loss in np.unique(upper[upper < 1 - 1e-6]) + 1e-7:
        chance = chances(tables(n), rates_at(float(loss)))
        missed_above = max(missed_above, float((chance @ (upper < loss)).max()))
        missed_below = max(missed_below, float((chance @ (lower > loss)).max()))
    assert 0.99 * (1 - confidence) < missed_above <= 1 - confidence + ROUNDING
    assert missed_below <= 1 - confidence + ROUNDING


@pytest.mark.parametrize(("n", "limit"), [(60, 0.05), (100, 0.02)])
def test_false_approval_stays_within_the_level_for_larger_samples(n: int, limit: float) -> None:
    # The bound falls with c and rises with b, so each c has a largest b that is approved.
    largest, b = [], -1
    for c in range(n + 1):
        while b + 1 + c <= n and loss_upper_bound(b + 1, c, n, 0.95) <= limit:
            b += 1
        largest.append(b)
    every = tables(n)
    approved = every[:, 0] <= np.array(largest)[every[:, 1]]
    worst = (chances(every, rates_at(limit)) @ approved).max()
    assert 0.045 < worst <= 0.05 + ROUNDING


def recomputed_p_value(b: int, c: int, n: int, loss: float, confidence: float) -> float:
    """The recipe in the docstring of `regiolect.gate`, step by step."""
    z, alpha = norm.ppf(confidence), 1 - confidence
    every = tables(n)
    statistic = every[:, 0] - every[:, 1] + z * np.sqrt(every[:, 0] + every[:, 1] + z * z / 4)
    observed = b - c + z * math.sqrt(b + c + z * z / 4)
    most = beta.ppf(1 - alpha / 10_000, b + 1, n - b) if b < n else 1.0
    least = beta.ppf(alpha / 10_000, c, n - c + 1) if c > 0 else 0.0
    p01 = np.linspace(max(least, -loss, 0.0), min(most - loss, (1 - loss) / 2), 1500)
    rates = np.stack([p01 + loss, p01, np.maximum(1 - 2 * p01 - loss, 0)], axis=1)
    return float((chances(every, rates) @ (statistic <= observed + 1e-9)).max())


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 50), (2, 1, 50), (1, 7, 60), (9, 8, 60), (12, 0, 50), (25, 30, 60)])
def test_the_published_recipe_gives_the_same_bound(b: int, c: int, n: int) -> None:
    upper = loss_upper_bound(b, c, n, 0.95)
    little = 0.01 * (upper - (b - c) / n)
    assert recomputed_p_value(b, c, n, upper, 0.95) <= 0.9998 * 0.05
    assert recomputed_p_value(b, c, n, upper - little, 0.95) > 0.9998 * 0.05


counted = st.integers(1, 4000).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, min(n, 150)), st.integers(0, min(n, 150)))
).filter(lambda table: table[1] + table[2] <= table[0])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(table=counted, confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_bounds_enclose_the_loss_seen_and_mirror_when_the_sides_are_swapped(
    table: tuple[int, int, int], confidence: float
) -> None:
    n, b, c = table
    lower, upper = loss_bounds(b, c, n, confidence)
    assert -1 <= lower <= (b - c) / n <= upper <= 1
    swapped_lower, swapped_upper = loss_bounds(c, b, n, confidence)
    assert (swapped_lower, swapped_upper) == (-upper, -lower)


@settings(max_examples=25, deadline=None)
@given(table=counted)
def test_an_answer_more_lost_or_gained_never_moves_a_bound_the_wrong_way(table: tuple[int, int, int]) -> None:
    n, b, c = table
    lower, upper = loss_bounds(b, c, n, 0.95)
    # Bounds are certified to a small part of their width; ties may differ by that.
    precision = 1e-3 * (upper - lower)
    if b + c < n:
        lost_lower, lost_upper = loss_bounds(b + 1, c, n, 0.95)
        assert lost_upper >= upper - precision
        assert lost_lower >= lower - precision
        gained_lower, gained_upper = loss_bounds(b, c + 1, n, 0.95)
        assert gained_upper <= upper + precision
        assert gained_lower <= lower + precision


def test_no_disagreement_at_a_tenth_of_a_point_needs_2995_samples() -> None:
    assert loss_upper_bound(0, 0, 2994, 0.95) > 0.001 >= loss_upper_bound(0, 0, 2995, 0.95)
    assert minimum_samples(0.001, 0.95) == 2995


@pytest.mark.parametrize(("limit", "confidence"), [(0.02, 0.95), (0.005, 0.99), (0.25, 0.8), (1.0, 0.95)])
def test_the_smallest_sample_passes_and_one_less_does_not(limit: float, confidence: float) -> None:
    n = minimum_samples(limit, confidence)
    assert loss_upper_bound(0, 0, n, confidence) <= limit
    assert n == 1 or loss_upper_bound(0, 0, n - 1, confidence) > limit


@pytest.mark.parametrize(("b", "c", "n", "margin"), [(40, 40, 1000, 0.01), (20, 10, 2000, 0.003), (3, 2, 700, 0.004)])
def test_the_estimate_of_samples_needed_is_near_what_is_needed(b: int, c: int, n: int, margin: float) -> None:
    limit = (b - c) / n + margin
    needed = samples_needed(b, c, n, limit, 0.95)
    assert needed is not None

    def upper(samples: int) -> float:
        return loss_upper_bound(round(b * samples / n), round(c * samples / n), samples, 0.95)

    assert upper(round(1.25 * needed)) <= limit < upper(round(0.75 * needed))


@pytest.mark.parametrize("limit", [5e-324, 1e-300, 1e-17, 1e-12])
def test_a_limit_that_no_data_can_prove_is_told_at_once(limit: float) -> None:
    """A policy may state it: the gate then says how far away a proof is, instead of never ending."""
    assert minimum_samples(limit, 0.95) >= 10**12
    for lost in (0, 2):
        needed = samples_needed(lost, lost, 4000, limit, 0.95)
        assert needed is not None
        assert needed >= 10**12


def test_no_number_of_samples_mends_a_loss_at_the_limit() -> None:
    assert samples_needed(20, 10, 1000, 0.01, 0.95) is None


def test_large_samples_agree_with_the_normal_interval() -> None:
    b, c, n = 500, 480, 10_000
    normal = (b - c) / n + 1.6449 * math.sqrt((b + c) / n / n)
    assert loss_upper_bound(b, c, n, 0.95) == pytest.approx(normal, rel=0.01)


def test_clopper_pearson_solves_its_definition() -> None:
    lower, upper = clopper_pearson(3, 20, 0.05)
    at_least_3 = sum(math.comb(20, k) * lower**k * (1 - lower) ** (20 - k) for k in range(3, 21))
    at_most_3 = sum(math.comb(20, k) * upper**k * (1 - upper) ** (20 - k) for k in range(4))
    assert (at_least_3, at_most_3) == (pytest.approx(0.05), pytest.approx(0.05))
    assert clopper_pearson(0, 20, 0.05)[0] == 0.0
    assert clopper_pearson(20, 20, 0.05)[1] == 1.0


def test_relative_bounds_hold_with_the_reference_as_random_as_the_engine() -> None:
    n, confidence = 9, 0.9
    cells = [
        (both, b, c, n - both - b - c)
        for both in range(n + 1)
        for b in range(n + 1 - both)
        for c in range(n + 1 - both - b)
        if both + b > 0
    ]
    found = np.array([relative_loss_bounds(b, c, both + b, n, confidence) for both, b, c, _ in cells])
    counts = np.array(cells)
    score = np.linspace(0.3, 0.98, 18)[:, None]
    for relative in (-0.2, 0.05, 0.2, 0.5):
        loss = relative * score
        p01 = max(-relative, 0.0) * score + np.linspace(0, 1, 25) * (1 - score - max(-relative, 0.0) * score)
        p10 = loss + p01
        p11 = score - p10
        rates = np.stack([p11, p10, p01, 1 - score - p01], axis=2).reshape(-1, 4)
        rates = rates[(rates >= 0).all(axis=1)]
        chance = chances(counts, rates)
        assert len(rates) > 20
        assert (chance @ (found[:, 1] < relative)).max() <= 1 - confidence + ROUNDING
        assert (chance @ (found[:, 0] > relative)).max() <= 1 - confidence + ROUNDING


def test_relative_bounds_are_wider_than_dividing_by_the_score_seen() -> None:
    lower, upper = loss_bounds(20, 10, 2000, 0.95)
    relative_lower, relative_upper = relative_loss_bounds(20, 10, 1600, 2000, 0.95)
    assert relative_upper > upper / 0.8
    assert relative_lower < lower / 0.8
    # An engine surely better: the divisor that makes the bound less good is the reference's upper end.
    assert 0 > relative_loss_bounds(0, 100, 1600, 2000, 0.95)[1] > loss_upper_bound(0, 100, 2000, 0.95) / 0.8


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 0), (-1, 0, 5), (0, -1, 5), (3, 3, 5)])
def test_counts_that_are_no_table_are_refused(b: int, c: int, n: int) -> None:
    with pytest.raises(InvalidResults, match="count them anew"):
        loss_bounds(b, c, n, 0.95)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95.0, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(InvalidSetting, match=r"0\.95 for 95 %"):
        loss_bounds(1, 1, 10, confidence)


@pytest.mark.parametrize("right", [0, 1, 10])
def test_a_reference_score_that_cannot_be_is_refused(right: int) -> None:
    with pytest.raises(InvalidResults, match="right answers of the reference"):
        relative_loss_bounds(0 if right == 0 else 2, 1, right, 10, 0.95)


@pytest.mark.parametrize(("b", "c", "n"), [(10, 0, 10), (0, 10, 10), (1, 0, 1), (0, 0, 1), (5, 5, 10), (0, 0, 10**6)])
def test_extreme_tables_have_bounds(b: int, c: int, n: int) -> None:
    lower, upper = loss_bounds(b, c, n, 0.95)
    assert -1 <= lower <= (b - c) / n <= upper <= 1
    assert upper > (b - c) / n or b == n
