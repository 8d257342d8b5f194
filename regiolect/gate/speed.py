"""The rulings on times: each limit must be kept by a confidence bound, from interleaved rounds."""

from __future__ import annotations

from regiolect.contracts import Decision, EvaluationResult, GateRule, Timing
from regiolect.evaluate.timing import rounds_for
from regiolect.gate.ruling import Ruling, digits_for
from regiolect.policy import LatencyLimit, RegionPolicy, SpeedLimit


def speed_rulings(policy: RegionPolicy, evaluation: EvaluationResult) -> list[Ruling]:
    """What the policy's limits on latency, throughput and speed-up say.

    The bound within a limit holds, the figure itself beyond it fails, anything else is inconclusive: among others too
    few rounds for a bound, and rounds of another batch than the policy's.
    """
    timing, confidence = evaluation.timing, policy.accuracy.confidence
    found = []
    if policy.latency is not None:
        found += _latency(policy.latency, policy.batch.opt, timing, confidence)
    if policy.speed is not None:
        found += _speed(policy.speed, policy.batch.opt, timing, confidence)
    return found


def _latency(limit: LatencyLimit, batch: int, timing: Timing, confidence: float) -> list[Ruling]:
    if (timing.batch, timing.batches) != (batch, 1):
        said = (
            f"latency: the limit is on one batch of {batch}, timed were {timing.batches} of {timing.batch} "
            "at once, so inconclusive"
        )
        return [Ruling("latency", Decision.INCONCLUSIVE, said)]
    found = []
    if limit.p50_ms is not None:
        found.append(_percentile("p50", 0.5, timing.p50_ms, timing.p50_upper_ms, limit.p50_ms, timing, confidence))
    return [*found, _percentile("p99", 0.99, timing.p99_ms, timing.p99_upper_ms, limit.p99_ms, timing, confidence)]


def _percentile(
    name: str, share: float, seen: float, upper: float | None, limit: float, timing: Timing, confidence: float
) -> Ruling:
    digits = digits_for(limit, seen, *([] if upper is None else [upper]))
    said = f"latency: {name} {seen:.{digits}f} ms at batch {timing.batch}, "
    bound = "no bound" if upper is None else f"at most {upper:.{digits}f} ms"
    said += f"{bound} at {100 * confidence:g} % from {timing.rounds:,} rounds, limit {limit:g} ms"
    if upper is not None and max(seen, upper) <= limit:
        return Ruling("latency", Decision.APPROVED, said)
    if seen > limit:
        return Ruling("latency", Decision.FAILED, said)
    needed = _rounds_needed(share, timing.rounds, confidence)
    return Ruling("latency", Decision.INCONCLUSIVE, f"{said}, so inconclusive; at least {needed:,} rounds are needed")


def _speed(limit: SpeedLimit, batch: int, timing: Timing, confidence: float) -> list[Ruling]:
    found = []
    a_round = timing.batch * timing.batches * 1e3
    if limit.least_throughput is not None:
        lower = None if timing.p50_upper_ms is None else a_round / timing.p50_upper_ms
        seen = a_round / timing.p50_ms
        found.append(_least("throughput", seen, lower, limit.least_throughput, " samples/s", batch, timing, confidence))
    if limit.least_speedup is not None:
        seen, lower = timing.speedup, timing.speedup_lower
        found.append(_least("speedup", seen, lower, limit.least_speedup, "x FP32", batch, timing, confidence))
    return found


def _least(
    rule: GateRule,
    seen: float,
    lower: float | None,
    least: float,
    unit: str,
    batch: int,
    timing: Timing,
    confidence: float,
) -> Ruling:
    if timing.batch != batch:
        said = f"{rule}: the limit is on batches of {batch}, timed were batches of {timing.batch}, so inconclusive"
        return Ruling(rule, Decision.INCONCLUSIVE, said)
    digits = digits_for(least, seen, *([] if lower is None else [lower]))
    said = f"{rule}: {seen:,.{digits}f}{unit} at {timing.batches} x {timing.batch} samples, "
    bound = "no bound" if lower is None else f"at least {lower:,.{digits}f}"
    said += f"{bound} at {100 * confidence:g} % from {timing.rounds:,} rounds, {least:,g} asked for"
    if lower is not None and min(seen, lower) >= least:
        return Ruling(rule, Decision.APPROVED, said)
    if seen < least:
        return Ruling(rule, Decision.FAILED, said)
    needed = _rounds_needed(0.5, timing.rounds, confidence)
    return Ruling(rule, Decision.INCONCLUSIVE, f"{said}, so inconclusive; at least {needed:,} rounds are needed")


def _rounds_needed(share: float, rounds: int, confidence: float) -> int:
    """The fewest rounds that let one more of them exceed the bound than these let; the fewest for a bound at all."""
    above = 0
    while rounds_for(share, confidence, above) <= rounds:
        above += 1
    return rounds_for(share, confidence, above)
