"""What another set promises of the gate: no more than the gate itself then says, in four cases of five."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.contracts import LossUnit
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.bounds import loss_upper_bound
from regiolect.gate.forecast import ASSURANCE, forecast
from regiolect.gate.losses import Evidence
from regiolect.policy import AccuracyLimit, SliceRules

RULE = AccuracyLimit(metric="accuracy", limit=1.0)


def rows(lost: int, gained: int, right: int, wrong: int) -> PairedResults:
    """Right/wrong results with these counts."""
    reference = np.repeat([1.0, 0.0, 1.0, 0.0], [lost, gained, right, wrong])
    engine = np.repeat([0.0, 1.0, 1.0, 0.0], [lost, gained, right, wrong])
    return PairedResults(tuple(f"s{i}" for i in range(len(reference))), reference, engine)


def test_a_set_as_large_as_the_gates_gives_the_gates_own_bound():
    seen = forecast(RULE, rows(7, 3, 900, 90), samples=1000)
    assert seen.loss == pytest.approx(0.4)
    assert seen.upper > 100 * loss_upper_bound(7, 3, 1000, 0.95)
    sure = forecast(RULE, rows(0, 0, 900, 100), samples=1000)
    assert sure.upper == pytest.approx(100 * loss_upper_bound(0, 0, 1000, 0.95)), "where nothing differs, nothing may"


def test_the_gate_stays_within_the_forecast_in_four_cases_of_five():
    rng, beyond, draws = np.random.default_rng(5), 0, 200
    for _ in range(draws):
        (lost, gained, right, wrong), (there, back, *_) = (
            rng.multinomial(n, [0.02, 0.01, 0.9, 0.07]) for n in (500, 2000)
        )
        seen = forecast(RULE, rows(lost, gained, right, wrong), samples=2000)
        beyond += 100 * loss_upper_bound(there, back, 2000, 0.95) > seen.upper
    # Three standard errors of so few draws.
    assert 0.1 < beyond / draws < 0.2 + 3 * (0.2 * 0.8 / draws) ** 0.5


def test_more_samples_at_the_gate_promise_a_tighter_bound():
    few = rows(2, 0, 480, 18)
    assert forecast(RULE, few, 4000).upper < forecast(RULE, few, 500).upper


@given(lost=st.integers(0, 12), gained=st.integers(0, 12), right=st.integers(50, 200), samples=st.integers(100, 3000))
def test_rounding_goes_to_the_careful_side(lost, gained, right, samples):
    given_rows = rows(lost, gained, right, 20)
    seen = forecast(RULE, given_rows, samples)
    scaled = samples * (lost - gained) / len(given_rows)
    assert seen.upper >= 100 * scaled / samples - 1e-6
    assert seen.loss == pytest.approx(100 * (lost - gained) / len(given_rows))


def test_a_relative_loss_is_related_to_the_reference():
    rule = AccuracyLimit(metric="accuracy", limit=1.0, unit=LossUnit.RELATIVE_PERCENT)
    seen = forecast(rule, rows(5, 0, 395, 100), samples=2000)
    assert seen.loss == pytest.approx(100 * 5 / 400)
    assert seen.upper > forecast(RULE, rows(5, 0, 395, 100), samples=2000).upper


def test_scores_outside_0_and_1_are_refused():
    odd = PairedResults(("a", "b"), np.array([1.0, 1.5]), np.array([1.0, 1.0]))
    with pytest.raises(InvalidResults, match=r"1\.5 for sample 'b'"):
        forecast(RULE, odd, 100)


def test_scores_promise_what_the_gate_would_say_of_as_many():
    rng = np.random.default_rng(3)
    reference = rng.uniform(0.8, 1.0, 4000)
    engine = np.clip(reference - rng.choice([0.0, 0.1, -0.05], 4000, p=[0.94, 0.02, 0.04]), 0, 1)
    paired = PairedResults(tuple(f"s{i}" for i in range(4000)), reference, engine)
    half = PairedResults(paired.sample_ids[:1000], reference[:1000], engine[:1000])
    rule = AccuracyLimit(metric="characters", limit=1.0)
    losses = Evidence.of(paired, "characters").whole()
    own = 100 * losses.upper(LossUnit.ABSOLUTE_POINTS, 0.95)
    chance = NormalDist().inv_cdf(ASSURANCE) * 100 * (reference - engine).std() * (2 / 4000) ** 0.5
    assert forecast(rule, paired, 4000).upper == pytest.approx(own + chance)
    promised = forecast(rule, half, 4000)
    less = NormalDist().inv_cdf(ASSURANCE) * 100 * (half.reference - half.engine).std() * (1 / 1000 + 1 / 4000) ** 0.5
    assert promised.upper - less - promised.loss == pytest.approx(own - forecast(rule, paired, 4000).loss, rel=0.3)


def test_a_slice_that_would_not_pass_is_named():
    given_rows = rows(12, 0, 1000, 0)
    device = np.where(np.arange(1012) < 112, "scanner", "phone")
    sliced = PairedResults(given_rows.sample_ids, given_rows.reference, given_rows.engine, {"device": device})
    rule = AccuracyLimit(metric="accuracy", limit=3.0, slices=SliceRules(by=("device",)))
    assert forecast(rule, sliced, 2000).slice == "device=scanner"
    assert forecast(rule, sliced, 2000).upper < 3.0
    wide = AccuracyLimit(metric="accuracy", limit=3.0, slices=SliceRules(by=("device",), limit=30))
    assert forecast(wide, sliced, 2000).slice is None
    expecting = SliceRules(by=("device",), limit=30, expected={"device": ("tablet",)})
    assert forecast(rule.model_copy(update={"slices": expecting}), sliced, 2000).slice == "device=tablet"


@pytest.mark.parametrize(("unit", "worst"), [(LossUnit.ABSOLUTE_POINTS, None), (LossUnit.RELATIVE_PERCENT, "device=b")])
def test_a_slice_that_the_reference_never_gets_right_is_the_worst_where_losses_are_relative(unit, worst):
    made = rows(0, 0, 400, 400)
    devices = np.repeat(["a", "b"], 400)
    sliced = PairedResults(made.sample_ids, made.reference, made.engine, {"device": devices})
    rule = AccuracyLimit(metric="accuracy", limit=5.0, unit=unit, slices=SliceRules(by=("device",)))
    assert forecast(rule, sliced, 8000).slice == worst
