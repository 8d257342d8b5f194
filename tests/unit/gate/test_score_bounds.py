"""Bounds of scores: valid whatever the scores, the same in any order, and nearly as tight as can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from regiolect.contracts import Decision, LossUnit
from regiolect.errors import InvalidResults, InvalidSetting
from regiolect.evaluate.results import PairedResults
from regiolect.gate.score_bounds import by_digest, samples_for, score_loss_lower, score_loss_upper, width_elsewhere

POINTS, PERCENT = LossUnit.ABSOLUTE_POINTS, LossUnit.RELATIVE_PERCENT
units = st.sampled_from([POINTS, PERCENT])
fractions = st.floats(0.0, 1.0)


def scores(rng: np.random.Generator, n: int, rate: float, size: float) -> tuple[NDArray[Any], NDArray[Any]]:
    reference = rng.uniform(0.6, 0.9, n)
    lost = np.where(rng.random(n) < rate, size * rng.choice([1.0, -0.5], n), 0.0)
    return reference, np.clip(reference - lost, 0.0, 1.0)


@pytest.mark.parametrize(
    ("unit", "n", "rate", "size"),
    [(POINTS, 150, 0.01, 0.6), (POINTS, 400, 1.0, 0.3), (PERCENT, 400, 0.01, 0.6), (PERCENT, 200, 0.5, 0.1)],
)
def test_both_bounds_hold_as_often_as_stated(unit: LossUnit, n: int, rate: float, size: float) -> None:
    rng = np.random.default_rng(7)
    lost, worth = (float(each.mean()) for each in (lambda r, e: (r - e, r))(*scores(rng, 10**6, rate, size)))
    true = lost / (worth if unit is PERCENT else 1.0)
    above = below = 0
    for _ in range(120):
        drawn = scores(rng, n, rate, size)
        above += score_loss_upper(*drawn, unit, 0.95) < true
        below += score_loss_lower(*drawn, unit, 0.95) > true
    # With an error of 5 %, more than 15 of 120 have a probability of less than 0.1 %.
    assert above <= 15
    assert below <= 15


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=60), units)
@example([(0.9999999999999999, 0.0)], POINTS)
@example([(0.0, 0.9999999999999999)], POINTS)
@example([(0.5, 5e-17)], PERCENT)
def test_the_bounds_hold_the_loss_seen_between_them(pairs: list[tuple[float, float]], unit: LossUnit) -> None:
    reference, engine = (np.array(column) for column in zip(*pairs, strict=True))
    if unit is PERCENT and reference.sum() < 1e-3:
        return
    seen = (reference - engine).sum() / (reference.sum() if unit is PERCENT else len(reference))
    lower, upper = (bound(reference, engine, unit, 0.95) for bound in (score_loss_lower, score_loss_upper))
    assert lower <= seen + 1e-6
    assert upper >= min(seen, 1.0) - 1e-6
    assert upper <= 1.0


def test_points_are_mirrored_when_reference_and_engine_change_places() -> None:
    reference, engine = scores(np.random.default_rng(2), 700, 0.2, 0.2)
    assert score_loss_lower(reference, engine, POINTS, 0.9) == pytest.approx(
        -score_loss_upper(engine, reference, POINTS, 0.9), abs=1e-6
    )


def test_an_engine_that_never_differs_needs_hardly_more_samples_than_right_and_wrong_do() -> None:
    same = np.full(3000, 0.93)
    assert 0.000998 < score_loss_upper(same, same, POINTS, 0.95) < 0.0011
    assert score_loss_upper(same, same, PERCENT, 0.95) == pytest.approx(0.00107 / 0.93, rel=0.03)


def test_scores_that_all_differ_a_little_are_bounded_about_as_a_t_interval_would() -> None:
    rng = np.random.default_rng(4)
    reference = rng.uniform(0.4, 0.6, 10_000)
    engine = reference - rng.normal(0.0, 0.05, 10_000)
    width = score_loss_upper(reference, engine, POINTS, 0.95) - (reference - engine).mean()
    assert 1.0 < width / (1.645 * 0.05 / 100) < 1.35


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), unit=units, by=st.floats(0.001, 0.2))
def test_an_engine_that_is_worse_on_every_sample_alike_has_a_larger_bound(seed: int, unit: LossUnit, by: float) -> None:
    reference, engine = scores(np.random.default_rng(seed), 300, 0.3, 0.2)
    kept = np.maximum(engine, 0.2)
    assert score_loss_upper(reference, kept - by, unit, 0.95) >= score_loss_upper(reference, kept, unit, 0.95)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), unit=units)
def test_more_confidence_asks_for_a_larger_bound(seed: int, unit: LossUnit) -> None:
    drawn = scores(np.random.default_rng(seed), 200, 0.3, 0.3)
    bounds = [score_loss_upper(*drawn, unit, confidence) for confidence in (0.8, 0.9, 0.95, 0.99)]
    assert bounds == sorted(bounds)


def test_bets_are_made_in_an_order_that_the_samples_own_order_does_not_change() -> None:
    ids = [f"s{i}" for i in range(50)]
    ordered = [ids[i] for i in by_digest(ids)]
    assert ordered != ids
    assert [ids[::-1][i] for i in by_digest(ids[::-1])] == ordered


def test_the_samples_needed_are_about_those_that_pass(decide: Any) -> None:
    # One sample of ten loses a tenth, every other one gains it back.
    lost = np.tile([0.1, *[0.0] * 9, -0.1, *[0.0] * 9], 1000)

    def rows(n: int) -> PairedResults:
        reference = 0.8 + 0.01 * (np.arange(n) % 2)
        return PairedResults(tuple(f"s{i}" for i in range(n)), reference, reference - lost[:n])

    held = decide(rows(1000), {"limit": 0.25})
    assert held.outcome is Decision.INCONCLUSIVE
    assert "0.25 points at 95 % needs at least 1,197 samples, have 1,000" in held.reasons[0]
    assert held.samples_needed is not None
    assert decide(rows(round(1.3 * held.samples_needed)), {"limit": 0.25}).outcome is Decision.APPROVED
    assert decide(rows(round(0.6 * held.samples_needed)), {"limit": 0.25}).outcome is Decision.INCONCLUSIVE
    assert decide(rows(1001), {"limit": 0.005}).samples_needed is None


def test_a_width_elsewhere_is_the_width_here_and_falls_with_the_samples() -> None:
    assert width_elsewhere(0.02, 500, 500, 0.95) == pytest.approx(0.02)
    assert width_elsewhere(0.02, 500, 5000, 0.95) < 0.02 / 3
    assert samples_for(0.02, 500, 1e-300, 0.95) >= 10**12
    assert width_elsewhere(0.02, 500, samples_for(0.02, 500, 0.004, 0.95), 0.95) == pytest.approx(0.004, rel=0.01)


def test_scores_are_told_by_their_means_and_the_order_of_samples_changes_nothing(decide: Any) -> None:
    reference = 0.945 + 0.01 * (np.arange(3000) % 2)
    engine = reference - np.isin(np.arange(3000), (0, 1, 2)) * 0.2 + np.isin(np.arange(3000), (4, 6)) * 0.05
    ids = np.array([f"line-{i}" for i in range(3000)])
    decision = decide(PairedResults(tuple(ids), reference, engine))
    assert decision.verdict is Decision.APPROVED
    assert decision.reasons[0].startswith(
        "accuracy: loss 0.02 points (0.9498 against 0.9500, 3 lower and 2 higher of 3,000), at most 0.1"
    )
    order = np.random.default_rng(1).permutation(3000)
    assert decide(PairedResults(tuple(ids[order]), reference[order], engine[order])).loss_upper == pytest.approx(
        decision.loss_upper, abs=1e-9
    )


@pytest.mark.parametrize("score", [np.nan, -0.1, 1.1])
def test_a_score_that_is_none_is_refused(score: float) -> None:
    with pytest.raises(InvalidResults, match=r"each in \[0, 1\]"):
        score_loss_upper(np.array([0.5, 0.5]), np.array([0.5, score]), POINTS, 0.95)


def test_a_reference_that_scores_nothing_and_a_confidence_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidResults, match="absolute_points"):
        score_loss_upper(np.zeros(9), np.full(9, 0.5), PERCENT, 0.95)
    with pytest.raises(InvalidSetting):
        score_loss_upper(np.ones(9), np.full(9, 0.5), POINTS, 95.0)
