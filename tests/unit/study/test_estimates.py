"""What a reader of a study relies on: an interval that is right as often as it says, and verdicts that are not luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regiolect.study import Verdict
from regiolect.study.estimates import cell_of, estimate, for_all, room, saving_of

SCORES = arrays(np.float64, (4, 120), elements=st.sampled_from([0.0, 1.0]))


def right(rng: np.random.Generator, draws: int, samples: int, rate: float) -> np.ndarray:
    return (rng.random((draws, samples)) < rate).astype(np.float64)


@given(reference=SCORES, engines=SCORES)
@settings(max_examples=50, deadline=None)
def test_a_cell_tells_every_draw_and_their_mean(reference: np.ndarray, engines: np.ndarray) -> None:
    cell = cell_of("a", "b", reference[0], engines, 0.95)
    expected = [100 * (reference[0].mean() - engine.mean()) for engine in engines]
    assert cell.losses == pytest.approx(expected)
    assert cell.loss == pytest.approx(np.mean(expected))
    assert (cell.lowest, cell.highest) == (min(cell.losses), max(cell.losses))
    assert cell.lower <= cell.loss + 1e-9 and cell.loss - 1e-9 <= cell.upper


@given(local=SCORES, foreign=SCORES)
@settings(max_examples=50, deadline=None)
def test_what_local_saves_against_foreign_foreign_loses_against_local(local: np.ndarray, foreign: np.ndarray) -> None:
    there, back = saving_of("a", "b", local, foreign, 0.95, 6), saving_of("b", "a", foreign, local, 0.95, 6)
    assert there.saving == pytest.approx(-back.saving)
    assert (there.lower, there.upper) == pytest.approx((-back.upper, -back.lower))
    mirrored = {Verdict.LOCAL: Verdict.FOREIGN, Verdict.FOREIGN: Verdict.LOCAL}
    assert back.verdict is mirrored.get(there.verdict, there.verdict)
    assert there.lower <= there.lower_alone and there.upper_alone <= there.upper


def test_the_order_of_seeds_and_samples_changes_no_figure() -> None:
    rng = np.random.default_rng(0)
    differences = right(rng, 5, 300, 0.1) - right(rng, 5, 300, 0.1)
    one = estimate(differences, 0.95)
    other = estimate(differences[::-1][:, rng.permutation(300)], 0.95)
    assert other.draws[::-1] == pytest.approx(one.draws)
    assert (other.mean, other.error, other.lower) == pytest.approx((one.mean, one.error, one.lower))


def test_nothing_seen_is_not_taken_for_nothing_there() -> None:
    seen = estimate(np.zeros((3, 1000)), 0.95)
    assert (seen.mean, seen.error) == (0.0, 0.0)
    # A rate of disagreement at the upper end shows itself in 1,000 samples with 97.5 %.
    assert (1 - seen.upper / 100) ** 1000 == pytest.approx(0.025)
    assert seen.lower == -seen.upper


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    """2,000 samples of which 3 % lose and 1 % gain: a true loss of 2 points; 400 times."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        outcome = rng.choice([1.0, -1.0, 0.0], size=2000, p=[0.03, 0.01, 0.96])
        found = estimate(np.tile(outcome, (2, 1)), 0.95)
        covered += found.lower <= 2.0 <= found.upper
    assert 0.92 <= covered / 400 <= 0.98


def test_draws_that_say_the_same_again_make_no_figure_surer() -> None:
    differences = right(np.random.default_rng(2), 1, 500, 0.05)
    assert estimate(np.tile(differences, (2, 1)), 0.95).upper == pytest.approx(
        estimate(np.tile(differences, (50, 1)), 0.95).upper
    )


def test_a_large_saving_in_every_draw_is_local_calibrations() -> None:
    rng = np.random.default_rng(3)
    local, foreign = right(rng, 3, 800, 0.9), right(rng, 3, 800, 0.5)
    assert saving_of("dark", "bright", local, foreign, 0.95, 72).verdict is Verdict.LOCAL
    assert saving_of("dark", "bright", foreign, local, 0.95, 72).verdict is Verdict.FOREIGN


def test_one_draw_that_says_the_opposite_takes_the_verdict() -> None:
    local, foreign = np.ones((5, 800)), np.zeros((5, 800))
    local[0, :8], foreign[0] = 0.0, 1.0
    saving = saving_of("dark", "bright", local, foreign, 0.95, 72)
    assert saving.lowest < 0 < saving.lower
    assert saving.verdict is Verdict.MIXED


def test_engines_that_do_not_differ_are_hardly_ever_called_though_many_pairs_are_compared() -> None:
    rng = np.random.default_rng(4)
    called, leaning = 0, 0
    for _ in range(600):
        pair = saving_of("a", "b", right(rng, 2, 400, 0.9), right(rng, 2, 400, 0.9), 0.95, 72)
        called += pair.verdict is not Verdict.NONE
        leaning += pair.leaning is not Verdict.NONE
    assert called <= 3, "at 95 % for 72 pairs together one of 1,440 pairs is called"
    assert 3 <= leaning <= 60, "looked at alone, at most one of 20 is"


def test_confidence_for_all_pairs_is_shared_among_them() -> None:
    assert for_all(0.95, 1) == pytest.approx(0.95)
    assert 1 - for_all(0.95, 72) == pytest.approx(0.05 / 72)
    assert room(1000, for_all(0.95, 72)) > room(1000, 0.95)
