"""Limits on times: each must be kept by a bound, and each blocks alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regiolect.contracts import Decision
from regiolect.evaluate.results import PairedResults
from regiolect.policy import LatencyLimit, SpeedLimit

ROWS = PairedResults(tuple(f"s{i:06d}" for i in range(4000)), np.ones(4000), np.ones(4000))


@pytest.mark.parametrize(
    ("timing", "outcome", "reason"),
    [
        (
            {"p99_ms": 99.0, "p99_upper_ms": 100.0},
            Decision.APPROVED,
            "p99 99.00 ms at batch 8, at most 100.00 ms at 95 % from 400 rounds, limit 100 ms",
        ),
        (
            {"p99_ms": 100.004, "p99_upper_ms": 130.0},
            Decision.FAILED,
            "p99 100.004 ms at batch 8, at most 130.000 ms at 95 % from 400 rounds, limit 100 ms",
        ),
        (
            {"p99_ms": 100.004, "p99_upper_ms": None, "rounds": 30},
            Decision.FAILED,
            "p99 100.004 ms at batch 8, no bound at 95 % from 30 rounds, limit 100 ms",
        ),
        (
            {"p99_ms": 100.004, "p99_upper_ms": 90.0},
            Decision.FAILED,
            "p99 100.004 ms at batch 8, at most 90.000 ms at 95 % from 400 rounds, limit 100 ms",
        ),
        (
            {"p99_ms": 4.0, "p99_upper_ms": None, "rounds": 298},
            Decision.INCONCLUSIVE,
            "p99 4.00 ms at batch 8, no bound at 95 % from 298 rounds, limit 100 ms, so inconclusive; "
            "at least 299 rounds are needed",
        ),
        (
            {"p99_ms": 4.0, "p99_upper_ms": 104.0},
            Decision.INCONCLUSIVE,
            "p99 4.00 ms at batch 8, at most 104.00 ms at 95 % from 400 rounds, limit 100 ms, so inconclusive; "
            "at least 473 rounds are needed",
        ),
        (
            {"batches": 8},
            Decision.INCONCLUSIVE,
            "the limit is on one batch of 8, timed were 8 of 8 at once, so inconclusive",
        ),
        (
            {"batch": 1},
            Decision.INCONCLUSIVE,
            "the limit is on one batch of 8, timed were 1 of 1 at once, so inconclusive",
        ),
    ],
)
def test_the_latency_must_be_surely_within_its_limit(
    decide: Any, timing: dict[str, Any], outcome: Decision, reason: str
) -> None:
    decision = decide(ROWS, timing=timing, latency=LatencyLimit(p99_ms=100.0))
    assert (decision.verdict, decision.reasons[-1]) == (outcome, f"latency: {reason}")


def test_more_confidence_in_the_latency_takes_more_rounds(decide: Any) -> None:
    timing = {"p99_upper_ms": None, "rounds": 400}
    decision = decide(ROWS, {"confidence": 0.99}, timing, latency=LatencyLimit(p99_ms=100.0))
    assert decision.verdict is Decision.INCONCLUSIVE
    assert "no bound at 99 % from 400 rounds" in decision.reasons[-1]
    assert decision.reasons[-1].endswith("at least 459 rounds are needed")


def test_an_engine_without_a_limit_on_times_needs_no_bound(decide: Any) -> None:
    unbounded = {"p99_upper_ms": None, "p50_upper_ms": None, "speedup_lower": None, "rounds": 30}
    assert decide(ROWS, timing=unbounded).outcome is Decision.APPROVED


@pytest.mark.parametrize(
    ("timing", "outcome", "reason"),
    [
        ({}, Decision.APPROVED, "p50 3.00 ms at batch 8, at most 3.10 ms at 95 % from 400 rounds, limit 3.2 ms"),
        (
            {"p50_ms": 3.3, "p50_upper_ms": 3.4},
            Decision.FAILED,
            "p50 3.30 ms at batch 8, at most 3.40 ms at 95 % from 400 rounds, limit 3.2 ms",
        ),
        (
            {"p50_upper_ms": 3.3},
            Decision.INCONCLUSIVE,
            "p50 3.00 ms at batch 8, at most 3.30 ms at 95 % from 400 rounds, limit 3.2 ms, so inconclusive; "
            "at least 402 rounds are needed",
        ),
        (
            {"p50_upper_ms": None, "rounds": 4},
            Decision.INCONCLUSIVE,
            "p50 3.00 ms at batch 8, no bound at 95 % from 4 rounds, limit 3.2 ms, so inconclusive; "
            "at least 5 rounds are needed",
        ),
    ],
)
def test_the_median_latency_is_limited_as_the_99th_percentile_is(
    decide: Any, timing: dict[str, Any], outcome: Decision, reason: str
) -> None:
    decision = decide(ROWS, timing=timing, latency=LatencyLimit(p99_ms=100.0, p50_ms=3.2))
    assert decision.verdict is outcome
    assert f"latency: {reason}" in decision.reasons


@pytest.mark.parametrize(
    ("rule", "timing", "outcome", "reason"),
    [
        (
            {"least_throughput": 2500},
            {},
            Decision.APPROVED,
            "throughput: 2,666.67 samples/s at 1 x 8 samples, at least 2,580.65 at 95 % from 400 rounds, "
            "2,500 asked for",
        ),
        ({"least_throughput": 2600}, {}, Decision.INCONCLUSIVE, "throughput: 2,666.67 samples/s"),
        ({"least_throughput": 2700}, {}, Decision.FAILED, "throughput: 2,666.67 samples/s"),
        ({"least_throughput": 2500}, {"p50_upper_ms": None, "rounds": 4}, Decision.INCONCLUSIVE, "no bound at 95 %"),
        ({"least_throughput": 2500}, {"batch": 4}, Decision.INCONCLUSIVE, "timed were batches of 4, so inconclusive"),
        (
            {"least_speedup": 1.5},
            {},
            Decision.APPROVED,
            "speedup: 2.00x FP32 at 1 x 8 samples, at least 1.90 at 95 % from 400 rounds, 1.5 asked for",
        ),
        ({"least_speedup": 1.95}, {}, Decision.INCONCLUSIVE, "so inconclusive; at least 402 rounds are needed"),
        ({"least_speedup": 2.5}, {}, Decision.FAILED, "speedup: 2.00x FP32"),
        ({"least_speedup": 1.5}, {"speedup_lower": None, "rounds": 3}, Decision.INCONCLUSIVE, "at least 5 rounds"),
    ],
)
def test_an_engine_must_surely_be_as_fast_as_asked_for(
    decide: Any, rule: dict[str, float], timing: dict[str, Any], outcome: Decision, reason: str
) -> None:
    decision = decide(ROWS, timing=timing, speed=SpeedLimit(**rule))
    (name,) = rule
    assert decision.verdict is outcome
    assert reason in decision.reasons[-1]
    assert decision.blocked_by == (() if outcome is Decision.APPROVED else (name.removeprefix("least_"),))
