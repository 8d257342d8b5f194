"""A limit on latency: the bound that it is judged by, and how many rounds that takes."""

from __future__ import annotations

from typing import Any

import pytest

from regiolect.contracts import Decision
from regiolect.policy import LatencyLimit
from tests.unit.gate.cases import decide, policy, table


def latency_of(**timing: Any) -> tuple[Decision, str]:
    """What is decided on a limit of 100 ms, and the last reason."""
    decision = decide(table(4000), policy(latency=LatencyLimit(p99_ms=100.0)), timing=timing)
    return decision.outcome, decision.reasons[-1]


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
def test_the_latency_must_be_surely_within_its_limit(timing: dict[str, Any], outcome: Decision, reason: str) -> None:
    assert latency_of(**timing) == (outcome, f"latency: {reason}")


def test_more_confidence_in_the_latency_takes_more_rounds() -> None:
    rules = policy(latency=LatencyLimit(p99_ms=100.0), accuracy={"confidence": 0.99})
    decision = decide(table(4000), rules, timing={"p99_upper_ms": None, "rounds": 400})
    assert decision.outcome is Decision.INCONCLUSIVE
    assert "no bound at 99 % from 400 rounds" in decision.reasons[-1]
    assert decision.reasons[-1].endswith("at least 459 rounds are needed")


def test_an_engine_without_a_limit_on_latency_needs_no_bound() -> None:
    assert decide(table(4000), timing={"p99_upper_ms": None, "rounds": 30}).outcome is Decision.APPROVED
