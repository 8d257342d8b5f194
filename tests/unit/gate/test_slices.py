"""Slices: every one must pass, alone blocks, and what is not there never passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regiolect.contracts import Decision, GateDecision, LossUnit
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.bounds import loss_upper_bound
from regiolect.policy import SliceRules

DEVICES = SliceRules(by=("device",), limit=2.0)


def of(decision: GateDecision) -> dict[str, Decision]:
    return {one.value: one.outcome for one in decision.slices}


def test_slices_within_their_limit_are_listed_with_their_figures(decide: Any, by_device: Any) -> None:
    decision = decide(by_device({"phone": (3000, 2, 0), "scanner": (1000, 3, 1)}), {"slices": DEVICES})
    assert decision.verdict is Decision.APPROVED
    phone, scanner = decision.slices
    assert (phone.column, phone.value, phone.samples, phone.limit) == ("device", "phone", 3000, 2.0)
    least = 100 * loss_upper_bound(3, 1, 1000, 0.95)
    assert scanner.loss == pytest.approx(0.2)
    assert least <= scanner.loss_upper <= 1.01 * least
    assert decision.reasons[1].startswith(
        "slices: 2 within their limit, the nearest device=scanner: loss 0.20 points (3 answers lost, 1 gained of 1,000)"
    )


@pytest.mark.parametrize("bad", ["a", "b", "c", "d"])
def test_each_slice_blocks_alone(decide: Any, by_device: Any, bad: str) -> None:
    counts = dict.fromkeys("abcd", (2000, 1, 1)) | {bad: (600, 40, 0)}
    decision = decide(by_device(counts), {"limit": 5.0, "slices": DEVICES})
    assert decision.verdict is Decision.FAILED
    assert decision.blocked_by == ("slices",)
    assert of(decision) == dict.fromkeys("abcd", Decision.APPROVED) | {bad: Decision.FAILED}
    assert decision.reasons[0].startswith(f"slices: device={bad}: loss 6.67 points (40 answers lost, 0 gained of 600)")


def test_a_slice_of_too_few_samples_says_how_large_the_set_should_be(decide: Any, by_device: Any) -> None:
    decision = decide(by_device({"phone": (3900, 0, 0), "scanner": (100, 0, 0)}), {"slices": DEVICES})
    assert decision.verdict is Decision.INCONCLUSIVE
    assert "2 points at 95 % needs at least 149 samples, have 100" in decision.reasons[0]
    assert decision.samples_needed == 149 * 40
    enough = by_device({"phone": (149 * 39, 0, 0), "scanner": (149, 0, 0)})
    assert decide(enough, {"slices": DEVICES}).outcome is Decision.APPROVED


def test_the_least_samples_of_the_policy_hold_back_what_the_bound_would_pass(decide: Any, by_device: Any) -> None:
    rows = by_device({"phone": (3000, 0, 0), "scanner": (499, 0, 0)})
    decision = decide(rows, {"slices": DEVICES.model_copy(update={"least_samples": 500})})
    assert of(decision) == {"phone": Decision.APPROVED, "scanner": Decision.INCONCLUSIVE}
    assert decision.reasons[0].endswith("so inconclusive; the policy asks for at least 500 samples, have 499")
    assert decision.samples_needed == 3507


def test_without_a_limit_of_their_own_slices_have_that_of_the_whole(decide: Any, by_device: Any) -> None:
    rows = by_device({"phone": (3000, 0, 0), "scanner": (598, 0, 0)})
    assert decide(rows, {"slices": SliceRules(by=("device",))}).slices[1].limit == 0.5
    assert decide(rows, {"slices": SliceRules(by=("device",))}).outcome is Decision.APPROVED


def test_results_without_the_column_never_pass(decide: Any) -> None:
    rows = PairedResults(tuple(f"s{i}" for i in range(4000)), np.ones(4000), np.ones(4000))
    decision = decide(rows, {"slices": DEVICES})
    assert (decision.verdict, decision.blocked_by) == (Decision.INCONCLUSIVE, ("slices",))
    assert "do not tell samples apart by 'device'" in decision.reasons[0]
    assert decision.samples_needed is None


def test_an_expected_value_that_is_not_there_never_passes(decide: Any, by_device: Any) -> None:
    slices = DEVICES.model_copy(update={"expected": {"device": ("phone", "tablet")}})
    decision = decide(by_device({"phone": (4000, 0, 0)}), {"slices": slices})
    assert decision.verdict is Decision.INCONCLUSIVE
    assert of(decision) == {"phone": Decision.APPROVED, "tablet": Decision.INCONCLUSIVE}
    assert decision.slices[1].samples == 0
    assert decision.reasons == ("slices: device=tablet: no sample, though the policy expects some, so inconclusive",)


def test_a_slice_that_the_reference_never_gets_right_has_no_relative_loss(decide: Any) -> None:
    device = np.repeat(["dark", "day"], [500, 3500])
    scores = (device == "day").astype(float)
    rows = PairedResults(tuple(f"s{i}" for i in range(4000)), scores, scores, {"device": device})
    decision = decide(rows, {"unit": LossUnit.RELATIVE_PERCENT, "slices": DEVICES})
    assert of(decision) == {"dark": Decision.INCONCLUSIVE, "day": Decision.APPROVED}
    assert "the reference scores 0 on all 500 samples" in decision.reasons[0]


def test_the_worst_slices_are_told_and_the_others_counted(decide: Any, by_device: Any) -> None:
    counts = {f"d{i}": (400, 10 * i, 0) for i in range(8)}
    decision = decide(by_device(counts), {"limit": 20.0, "slices": DEVICES})
    told = [reason.split(":")[1].strip() for reason in decision.reasons]
    assert told[:3] == ["device=d7", "device=d6", "device=d5"]
    assert decision.reasons[3] == (
        "slices: 4 more of 8 are not within their limit: device=d4, device=d3, device=d2, ..."
    )


def test_slices_of_scores_take_the_bound_of_scores(decide: Any) -> None:
    rng = np.random.default_rng(1)
    device = rng.choice(["phone", "scanner"], 4000)
    reference = 0.9 + 0.01 * (np.arange(4000) % 2)
    engine = reference - 0.1 * ((device == "scanner") & (rng.random(4000) < 0.5))
    rows = PairedResults(tuple(f"s{i}" for i in range(4000)), reference, engine, {"device": device})
    decision = decide(rows, {"limit": 4.0, "slices": DEVICES})
    assert of(decision) == {"phone": Decision.APPROVED, "scanner": Decision.FAILED}
    assert decision.blocked_by == ("slices",)


def test_an_id_of_each_sample_is_no_slice(decide: Any) -> None:
    ids = tuple(f"s{i}" for i in range(1001))
    rows = PairedResults(ids, np.ones(1001), np.ones(1001), {"device": np.array(ids)})
    with pytest.raises(InvalidResults, match=r"at most 1,000 values of 'device'.*1,001"):
        decide(rows, {"slices": DEVICES})


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.tuples(st.integers(150, 400), st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=3),
    which=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_order_changes_nothing_and_one_more_lost_answer_never_helps(
    decide: Any, by_device: Any, counts: list[tuple[int, int, int]], which: int, seed: int
) -> None:
    devices = {f"d{i}": count for i, count in enumerate(counts)}
    rows = by_device(devices)
    before = decide(rows, {"limit": 3.0, "slices": DEVICES})
    order = np.random.default_rng(seed).permutation(len(rows))
    mixed = PairedResults(
        tuple(rows.sample_ids[i] for i in order),
        rows.reference[order],
        rows.engine[order],
        {"device": rows.columns["device"][order]},
    )
    assert decide(mixed, {"limit": 3.0, "slices": DEVICES}) == before
    name = f"d{which % len(counts)}"
    n, lost, gained = devices[name]
    worse = decide(by_device(devices | {name: (n, lost + 1, gained)}), {"limit": 3.0, "slices": DEVICES})
    severity = [Decision.APPROVED, Decision.INCONCLUSIVE, Decision.FAILED]
    assert severity.index(worse.outcome) >= severity.index(before.outcome)
    for then, now in zip(before.slices, worse.slices, strict=True):
        assert now.loss_upper > then.loss_upper if now.value == name else now == then


def test_three_more_slices_are_all_named(decide: Any, by_device: Any) -> None:
    counts = {f"d{i}": (400, 10 * i, 0) for i in range(7)}
    decision = decide(by_device(counts), {"limit": 20.0, "slices": DEVICES})
    assert decision.reasons[3] == "slices: 3 more of 7 are not within their limit: device=d3, device=d2, device=d1"
