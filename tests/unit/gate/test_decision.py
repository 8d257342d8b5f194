"""The gate's decision: each outcome, each rule, each refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regiolect.contracts import ApprovedEngine, Attestation, Decision, Execution, LossUnit, Precision
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.gate.bounds import clopper_pearson, loss_bounds, relative_loss_bounds
from regiolect.policy import LatencyLimit, SampleMinimum
from tests.unit.gate.cases import attestation, decide, engine, evaluation, policy, table


def test_a_loss_surely_within_the_limit_is_approved_with_its_figures() -> None:
    rows = table(4000, lost=6, gained=4, wrong=300)
    decision = decide(rows, policy(latency=LatencyLimit(p99_ms=100.0)))
    lower, upper = loss_bounds(6, 4, 4000, 0.95)
    assert decision.verdict is Decision.APPROVED
    assert (decision.loss, decision.loss_lower, decision.loss_upper) == pytest.approx((0.05, 100 * lower, 100 * upper))
    assert (decision.threshold, decision.confidence, decision.samples) == (0.5, 0.95, 4000)
    assert decision.samples_needed is None
    accuracy, precision, latency = decision.reasons
    assert accuracy == (
        f"accuracy: loss 0.05 points (6 answers lost, 4 gained of 4,000), at most {100 * upper:.2f} at 95 %, limit 0.5"
    )
    assert precision == "precision: FP16 graph, executes FP32 9 (runtime model), nothing coarser than FP16"
    assert latency == "latency: p99 4.00 ms at batch 8, at most 5.00 ms at 95 % from 400 rounds, limit 100 ms"


def test_a_loss_surely_above_the_limit_fails() -> None:
    decision = decide(table(2000, lost=60, gained=5))
    assert decision.verdict is Decision.FAILED
    assert decision.loss_lower > 0.5
    (reason,) = decision.reasons
    assert reason.startswith("accuracy: loss 2.75 points (60 answers lost, 5 gained of 2,000), at least 2.1")
    assert reason.endswith("at 95 %, limit 0.5")


def test_a_loss_that_may_be_either_is_inconclusive_and_says_how_many_samples_it_takes() -> None:
    decision = decide(table(3000, lost=16, gained=8))
    assert decision.verdict is Decision.INCONCLUSIVE
    assert decision.loss_lower <= 0.5 < decision.loss_upper
    assert decision.samples_needed is not None
    assert decision.samples_needed > 3000
    assert f"about {decision.samples_needed:,} samples are needed at the disagreement seen" in decision.reasons[0]
    assert decide(table(3 * 3000, lost=3 * 16, gained=3 * 8)).outcome is Decision.APPROVED


def test_too_few_samples_are_told_even_when_nothing_disagrees() -> None:
    decision = decide(table(1000), policy(limit=0.1))
    assert decision.verdict is Decision.INCONCLUSIVE
    assert decision.samples_needed == 2995
    assert "0.1 points at 95 % needs at least 2,995 samples, have 1,000" in decision.reasons[0]
    assert decide(table(2995), policy(limit=0.1)).outcome is Decision.APPROVED


def test_a_loss_seen_above_the_limit_promises_nothing() -> None:
    decision = decide(table(1000, lost=8, gained=2))
    assert decision.verdict is Decision.INCONCLUSIVE
    assert decision.samples_needed is None
    assert "no number of samples would approve" in decision.reasons[0]


def test_a_limit_of_zero_is_passed_by_a_better_engine_alone() -> None:
    assert decide(table(1000, lost=2, gained=40), policy(limit=0.0)).outcome is Decision.APPROVED
    assert decide(table(1000), policy(limit=0.0)).outcome is Decision.INCONCLUSIVE


def test_what_is_surely_better_than_its_reference_is_told_as_suspicious() -> None:
    """As an error rate makes the worst engine: nothing is gained by taking precision away."""
    better = decide(table(4000, gained=400), policy(0.5))
    assert better.outcome is Decision.APPROVED
    assert better.reasons[-1].startswith("suspicious: better than the reference by at least 9.")
    assert "greater_is_better=False" in better.reasons[-1]
    for gained in (0, 20):
        assert not any("suspicious" in reason for reason in decide(table(4000, gained=gained), policy(0.5)).reasons)


@pytest.mark.parametrize(
    ("wrong", "outcome", "bound"),
    [
        (100, Decision.APPROVED, "at least 0.9"),
        (400, Decision.INCONCLUSIVE, "at least 0.8"),
        (3600, Decision.FAILED, "most"),
    ],
)
def test_a_floor_is_judged_by_the_bound_of_the_engines_own_score(wrong: int, outcome: Decision, bound: str) -> None:
    """Whatever its reference scores: of a network at chance level nothing is lost."""
    rows = table(4000, wrong=wrong)
    assert decide(rows, policy(0.5)).outcome is Decision.APPROVED
    decision = decide(rows, policy(0.5, accuracy={"least": 0.9}))
    assert (decision.verdict, decision.loss, decision.least) == (outcome, 0.0, 0.9)
    assert decision.score_lower == pytest.approx(clopper_pearson(4000 - wrong, 4000, 0.05)[0])
    (reason,) = [each for each in decision.reasons if each.startswith("least: ")]
    assert bound in reason
    assert ("least" in decision.blocked_by) is (outcome is not Decision.APPROVED)


def test_a_floor_of_scores_is_bounded_as_their_loss_against_full_marks_is() -> None:
    each = np.random.default_rng(5).uniform(0.7, 1.0, 4000)
    rows = PairedResults(tuple(f"s{i}" for i in range(4000)), each, each)
    decision = decide(rows, policy(0.5, accuracy={"least": 0.84}))
    assert decision.verdict is Decision.APPROVED
    assert decision.score_lower is not None
    assert 0.84 < decision.score_lower < each.mean()
    assert decide(rows, policy(0.5, accuracy={"least": 0.86})).outcome is Decision.FAILED


def test_figures_near_the_limit_get_the_decimals_that_tell_them_apart() -> None:
    upper = 100 * loss_bounds(6, 4, 4000, 0.95)[1]
    decision = decide(table(4000, lost=6, gained=4), policy(limit=round(upper + 0.001, 4)))
    shown = decision.reasons[0].split("at most ")[1].split(" ")[0]
    assert decision.verdict is Decision.APPROVED
    assert float(shown) < decision.threshold


def test_a_relative_limit_counts_the_reference_as_random() -> None:
    rules = policy(limit=0.5, accuracy={"unit": LossUnit.RELATIVE_PERCENT})
    rows = table(4000, lost=6, gained=4, wrong=1594)
    decision = decide(rows, rules)
    lower, upper = relative_loss_bounds(6, 4, 2402, 4000, 0.95)
    assert decision.unit is LossUnit.RELATIVE_PERCENT
    assert decision.loss == pytest.approx(100 * 2 / 2402)
    assert (decision.loss_lower, decision.loss_upper) == pytest.approx((100 * lower, 100 * upper))
    assert decision.verdict is Decision.APPROVED
    assert "% of the reference's score" in decision.reasons[0]
    # The same answers relate to a smaller score: what passes in points need not pass in percent.
    tight = table(1000, wrong=700)
    assert decide(tight, policy(limit=0.4)).outcome is Decision.APPROVED
    told = decide(tight, policy(limit=0.4, accuracy={"unit": LossUnit.RELATIVE_PERCENT}))
    assert told.outcome is Decision.INCONCLUSIVE
    assert "needs about 2,496 samples, have 1,000" in told.reasons[0]


@pytest.mark.parametrize(
    ("rules", "proof", "reason"),
    [
        (
            {"precision": Precision.FP16},
            attestation({Execution.FP32: 8, Execution.BF16: 2}),
            "precision: the engine executes 2 compute nodes in BF16, coarser than the policy's FP16",
        ),
        (
            {"precision": Precision.INT8, "forbidden": (Execution.BF16,)},
            attestation({Execution.INT8: 8, Execution.BF16: 1}),
            "precision: the engine executes 1 compute node in BF16, forbidden in region 'eu'",
        ),
        (
            {"precision": Precision.FP16, "forbidden": (Execution.INT8,)},
            attestation(INT8=3, FP16=6),
            "precision: the graph holds 3 compute nodes in INT8, coarser than the policy's FP16 and forbidden in "
            "region 'eu'",
        ),
    ],
)
def test_a_type_that_the_policy_rules_out_fails(rules: dict[str, Any], proof: Attestation, reason: str) -> None:
    decision = decide(table(4000), policy(**rules), proof)
    assert decision.verdict is Decision.FAILED
    assert decision.reasons == (reason,)


def test_an_engine_built_coarser_than_its_policy_fails_whatever_it_executes() -> None:
    rows = table(4000)
    coarse = engine(precision=Precision.INT8)
    decision = decide_gate(coarse, policy(), attestation(), evaluation(rows), rows)
    assert decision.verdict is Decision.FAILED
    assert decision.reasons == ("precision: the engine was built as INT8, coarser than the policy's FP16",)


@pytest.mark.parametrize(
    ("proof", "does"),
    [
        (attestation({Execution.INT8: 3, Execution.FP32: 1}), "engine executes"),
        (attestation(INT8=3, FP16=6), "graph holds"),
    ],
)
def test_int8_in_an_engine_that_stands_in_for_int8_fails(proof: Attestation, does: str) -> None:
    """It would be loaded in every class of arithmetic, and without a self-test."""
    rows = table(4000)
    decision = decide_gate(engine(), policy(precision=Precision.INT8), proof, evaluation(rows), rows)
    assert decision.verdict is Decision.FAILED
    assert decision.reasons == (f"precision: the {does} 3 compute nodes in INT8, in an engine that was built as FP16",)


def test_a_type_listed_with_no_node_is_no_fault() -> None:
    assert decide(table(4000), proof=attestation(FP16=6, INT8=0)).outcome is Decision.APPROVED


def test_fewer_samples_than_the_policy_asks_for_block_even_a_perfect_engine() -> None:
    rules = policy(samples=SampleMinimum(gate=2000))
    short = decide(table(1999), rules)
    assert short.outcome is Decision.INCONCLUSIVE
    assert short.reasons == ("samples: 1,999 in the gate set, the policy asks for at least 2,000, so inconclusive",)
    assert short.samples_needed == 2000
    assert decide(table(2000), rules).outcome is Decision.APPROVED


def test_the_samples_needed_satisfy_every_rule() -> None:
    few = table(1000, lost=4)
    for_the_limit = decide(few).samples_needed
    assert for_the_limit is not None
    assert decide(few, policy(samples=SampleMinimum(gate=1001))).samples_needed == for_the_limit
    assert decide(few, policy(samples=SampleMinimum(gate=10**6))).samples_needed == 10**6
    assert decide(table(1000, lost=8), policy(samples=SampleMinimum(gate=2000))).samples_needed is None


def test_one_answer_is_told_as_one() -> None:
    assert "(1 answer lost, 0 gained of 4,000)" in decide(table(4000, lost=1)).reasons[0]


def test_every_reason_is_listed_and_accuracy_is_first() -> None:
    decision = decide(
        table(1000, lost=3),
        policy(latency=LatencyLimit(p99_ms=1.0), forbidden=(Execution.TF32,)),
        attestation({Execution.TF32: 4, Execution.BF16: 5}, INT8=2),
    )
    assert decision.verdict is Decision.FAILED
    assert [reason.split(":")[0] for reason in decision.reasons] == ["accuracy", *["precision"] * 3, "latency"]
    assert "inconclusive" in decision.reasons[0]


def test_an_approval_makes_an_approved_engine_and_nothing_else_does() -> None:
    for rows, approved in ((table(4000), True), (table(100), False)):
        parts = {"engine": engine(), "attestation": attestation(), "evaluation": evaluation(rows)}
        decision = decide(rows)
        if approved:
            assert ApprovedEngine(**parts, decision=decision).decision.verdict is Decision.APPROVED
        else:
            with pytest.raises(ValueError, match="the gate said inconclusive"):
                ApprovedEngine(**parts, decision=decision)


def test_the_order_of_samples_changes_nothing() -> None:
    rows = table(3000, lost=14, gained=8, wrong=200)
    order = np.random.default_rng(5).permutation(len(rows))
    mixed = PairedResults(tuple(rows.sample_ids[i] for i in order), rows.reference[order], rows.engine[order])
    assert decide(mixed) == decide(rows)
