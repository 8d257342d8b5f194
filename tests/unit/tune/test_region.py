"""What a region's engine is tuned for follows from what its gate judges by."""

from __future__ import annotations

from typing import Any

import pytest

from regiolect.contracts import Performance, Precision, Target
from regiolect.policy import AccuracyLimit, LatencyLimit, RegionPolicy, SpeedLimit
from regiolect.tune.region import aim, judged_at_opt

LATENCY, THROUGHPUT = Performance.LATENCY, Performance.THROUGHPUT


def policy(performance: Performance, **limits: Any) -> RegionPolicy:
    return RegionPolicy(
        region="eu",
        title="Europe",
        reason="stated here for the tests of tuning alone",
        precision=Precision.FP32,
        accuracy=AccuracyLimit(metric="accuracy", limit=5.0),
        targets=(Target(name="cpu", backend="onnxruntime"),),
        performance=performance,
        **limits,
    )


@pytest.mark.parametrize(
    ("asked", "limits", "tuned_for", "at_opt"),
    [
        (LATENCY, {}, LATENCY, False),
        (THROUGHPUT, {}, THROUGHPUT, False),
        (THROUGHPUT, {"latency": LatencyLimit(p99_ms=50)}, LATENCY, True),
        (THROUGHPUT, {"speed": SpeedLimit(least_throughput=100)}, THROUGHPUT, True),
        (LATENCY, {"speed": SpeedLimit(least_speedup=2)}, LATENCY, True),
    ],
)
def test_where_a_limit_is_on_batches_of_opt_nothing_else_may_be_chosen(
    asked: Performance, limits: dict[str, Any], tuned_for: Performance, at_opt: bool
) -> None:
    found = policy(asked, **limits)
    assert aim(found) is tuned_for
    assert judged_at_opt(found) is at_opt
