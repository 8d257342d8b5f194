"""Figures that lie on a limit itself, where `at most` and `less than` part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regiolect.contracts import Decision, Verdict
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.accuracy import Bounded, least_ruling
from regiolect.gate.losses import Evidence
from regiolect.gate.slices import MOST_SLICES
from regiolect.policy import AccuracyLimit, LatencyLimit, SampleMinimum
from regiolect.policy.rules import SliceRules, SpeedLimit
from tests.unit.gate.cases import decide, policy, table


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (1.0, 2.0, Decision.APPROVED),
        (None, 2.0, Decision.APPROVED),
        (1.0, 2.0 + 1e-12, Decision.INCONCLUSIVE),
        (2.0, 3.0, Decision.INCONCLUSIVE),
        (None, 3.0, Decision.INCONCLUSIVE),
        (2.0 + 1e-12, 3.0, Decision.FAILED),
    ],
)
def test_at_most_the_limit_is_within_it_and_only_more_is_above(
    lower: float | None, upper: float, verdict: Verdict
) -> None:
    assert Bounded(1.5, lower, upper, limit=2.0).verdict is verdict


@pytest.mark.parametrize(("bound", "verdict"), [(0, Decision.APPROVED), (1, Decision.INCONCLUSIVE)])
def test_a_score_that_is_surely_the_lowest_allowed_is_enough_and_one_that_may_be_it_has_not_failed(
    bound: int, verdict: Verdict
) -> None:
    losses = Evidence.of(table(100, wrong=10), "accuracy").whole()
    rule = AccuracyLimit(metric="accuracy", limit=0.5, least=losses.score_bounds(0.95)[bound])
    _, (ruling,) = least_ruling(rule, losses)
    assert ruling.verdict is verdict
    assert ruling.reason.endswith(", so inconclusive") == (verdict is Decision.INCONCLUSIVE)


def test_as_many_samples_as_any_proof_takes_are_not_told_as_too_few() -> None:
    (few,) = decide(table(2994, lost=1, gained=1), policy(0.1)).reasons
    (enough,) = decide(table(2995, lost=1, gained=1), policy(0.1)).reasons
    assert "needs at least 2,995 samples, have 2,994" in few
    assert "needs at least" not in enough
    assert "are needed at the disagreement seen" in enough


@pytest.mark.parametrize(("asked", "verdict"), [(4000, Decision.APPROVED), (4001, Decision.INCONCLUSIVE)])
def test_exactly_the_samples_that_the_policy_asks_for_are_enough(asked: int, verdict: Verdict) -> None:
    assert decide(table(4000), policy(samples=SampleMinimum(gate=asked))).verdict is verdict


@pytest.mark.parametrize(
    ("timing", "limit", "verdict"),
    [
        ({"p99_ms": 4.0, "p99_upper_ms": 5.0}, 5.0, Decision.APPROVED),
        ({"p99_ms": 5.0, "p99_upper_ms": 5.0}, 5.0, Decision.APPROVED),
        ({"p99_ms": 5.0, "p99_upper_ms": 6.0}, 5.0, Decision.INCONCLUSIVE),
        ({"p99_ms": 5.0, "p99_upper_ms": None}, 5.0, Decision.INCONCLUSIVE),
        ({"p99_ms": 5.1, "p99_upper_ms": 6.0}, 5.0, Decision.FAILED),
    ],
)
def test_a_latency_on_its_limit(timing: dict[str, Any], limit: float, verdict: Verdict) -> None:
    assert decide(table(4000), policy(latency=LatencyLimit(p99_ms=limit)), timing=timing).verdict is verdict


@pytest.mark.parametrize(
    ("timing", "verdict"),
    [
        ({"speedup": 2.0, "speedup_lower": 2.0}, Decision.APPROVED),
        ({"speedup": 2.0, "speedup_lower": 1.9}, Decision.INCONCLUSIVE),
        ({"speedup": 2.0, "speedup_lower": None}, Decision.INCONCLUSIVE),
        ({"speedup": 1.99, "speedup_lower": 1.9}, Decision.FAILED),
    ],
)
def test_a_speedup_on_what_is_asked_for(timing: dict[str, Any], verdict: Verdict) -> None:
    assert decide(table(4000), policy(speed=SpeedLimit(least_speedup=2.0)), timing=timing).verdict is verdict


def _in_parts(rows: PairedResults, size: int) -> PairedResults:
    """Devices of `size` samples each."""
    devices = np.array([f"d{number // size:04d}" for number in range(len(rows))])
    return PairedResults(rows.sample_ids, rows.reference, rows.engine, {"device": devices})


@pytest.mark.parametrize(("least", "verdict"), [(2000, Decision.APPROVED), (2001, Decision.INCONCLUSIVE)])
def test_a_slice_of_exactly_the_least_samples_is_judged(least: int, verdict: Verdict) -> None:
    rules = SliceRules(by=("device",), limit=5.0, least_samples=least)
    stated = policy(accuracy={"slices": rules})
    assert decide(_in_parts(table(4000), 2000), stated).verdict is verdict


def test_as_many_slices_as_there_may_be_are_judged_and_one_more_is_refused() -> None:
    stated = policy(accuracy={"slices": SliceRules(by=("device",), limit=100.0)})
    assert decide(_in_parts(table(MOST_SLICES), 1), stated).slices
    with pytest.raises(InvalidResults, match="at most 1,000 values of 'device'"):
        decide(_in_parts(table(MOST_SLICES + 1), 1), stated)
