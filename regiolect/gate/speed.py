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
    rulings = []
    if policy.latency is not None:
        rulings += _latency(policy.latency, policy.batch.opt, timing, confidence)
    if policy.speed is not None:
        rulings += _speed(policy.speed, policy.batch.opt, timing, confidence)
    return rulings


def _latency(limit: LatencyLimit, batch: int, timing: Timing, confidence: float) -> list[Ruling]:
    if (timing.batch, timing.batches) != (batch, 1):
        reason = (
            f"latency: the limit is on one batch of {batch}, timed were {timing.batches} of {timing.batch} "
            "at once, so inconclusive"
        )
        return [Ruling("latency", Decision.INCONCLUSIVE, reason)]
    rulings = []
    if limit.p50_ms is not None:
        rulings.append(_percentile("p50", 0.5, timing.p50_ms, timing.p50_upper_ms, limit.p50_ms, timing, confidence))
    return [*rulings, _percentile("p99", 0.99, timing.p99_ms, timing.p99_upper_ms, limit.p99_ms, timing, confidence)]


def _percentile(
    name: str, share: float, measured: float, upper: float | None, limit: float, timing: Timing, confidence: float
) -> Ruling:
    digits = digits_for(limit, measured, *([] if upper is None else [upper]))
    reason = f"latency: {name} {measured:.{digits}f} ms at batch {timing.batch}, "
    bound = "no bound" if upper is None else f"at most {upper:.{digits}f} ms"
    reason += f"{bound} at {100 * confidence:g} % from {timing.rounds:,} rounds, limit {limit:g} ms"
    if upper is not None and max(measured, upper) <= limit:
        return Ruling("latency", Decision.APPROVED, reason)
    if measured > limit:
        return Ruling("latency", Decision.FAILED, reason)
    needed = _rounds_needed(share, timing.rounds, confidence)
    return Ruling("latency", Decision.INCONCLUSIVE, f"{reason}, so inconclusive; at least {needed:,} rounds are needed")


def _speed(limit: SpeedLimit, batch: int, timing: Timing, confidence: float) -> list[Ruling]:
    rulings = []
    a_round = timing.batch * timing.batches * 1e3
    if limit.least_throughput is not None:
        lower = None if timing.p50_upper_ms is None else a_round / timing.p50_upper_ms
        measured = a_round / timing.p50_ms
        rulings.append(
            _least("throughput", measured, lower, limit.least_throughput, " samples/s", batch, timing, confidence)
        )
    if limit.least_speedup is not None:
        measured, lower = timing.speedup, timing.speedup_lower
        rulings.append(_least("speedup", measured, lower, limit.least_speedup, "x FP32", batch, timing, confidence))
    return rulings


def _least(
    rule: GateRule,
    measured: float,
    lower: float | None,
    least: float,
    unit: str,
    batch: int,
    timing: Timing,
    confidence: float,
) -> Ruling:
    if timing.batch != batch:
        reason = f"{rule}: the limit is on batches of {batch}, timed were batches of {timing.batch}, so inconclusive"
        return Ruling(rule, Decision.INCONCLUSIVE, reason)
    digits = digits_for(least, measured, *([] if lower is None else [lower]))
    reason = f"{rule}: {measured:,.{digits}f}{unit} at {timing.batches} x {timing.batch} samples, "
    bound = "no bound" if lower is None else f"at least {lower:,.{digits}f}"
    reason += f"{bound} at {100 * confidence:g} % from {timing.rounds:,} rounds, {least:,g} asked for"
    if lower is not None and min(measured, lower) >= least:
        return Ruling(rule, Decision.APPROVED, reason)
    if measured < least:
        return Ruling(rule, Decision.FAILED, reason)
    needed = _rounds_needed(0.5, timing.rounds, confidence)
    return Ruling(rule, Decision.INCONCLUSIVE, f"{reason}, so inconclusive; at least {needed:,} rounds are needed")


def _rounds_needed(share: float, rounds: int, confidence: float) -> int:
    """The fewest rounds that let one more of them exceed the bound than these let; the fewest for a bound at all."""
    above = 0
    while rounds_for(share, confidence, above) <= rounds:
        above += 1
    return rounds_for(share, confidence, above)
